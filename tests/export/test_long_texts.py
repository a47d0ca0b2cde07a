"""Where texts are long, attention runs a few heads at a time: the same numbers, by nodes that are stored once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from compressbert.config.schema import ExportConfig
from compressbert.export import packing
from compressbert.export.form import Form
from compressbert.export.graph import OWN, GraphBuilder, every_node
from compressbert.export.write import build
from compressbert.model import edits
from compressbert.model.handle import Model
from tests.export.stand import run_file, run_network, tiny_model, uneven_model
from tests.tiny import FAMILIES, padded_batch

LONG = 6
BATCHES = ((9,), (8, 8, 8), (5, 5), (9, 4, 7), (6, 6))  # long, long together, short, padded, just long


@pytest.fixture(autouse=True)
def short_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "LONG", LONG)


def saved(model: Model, file: Path, form: Form | None = None) -> Path:
    onnx.save(build(model, ExportConfig(), form or Form()), str(file))
    return file


def calls(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    return (node for node in every_node(proto.graph) if node.domain == OWN)


@pytest.mark.parametrize("head", ["classification", "tokens"])
@pytest.mark.parametrize("family", FAMILIES)
def test_fp32_equals_pytorch_for_long_and_for_short_texts(family: str, head: str, tmp_path: Path) -> None:
    model = uneven_model(family, head=head)
    file = saved(model, tmp_path / "model.onnx")
    for lengths in BATCHES:
        batch = padded_batch(family, lengths=lengths)
        real = batch["attention_mask"].numpy() == 1
        ours, theirs = run_file(file, batch), run_network(model, batch)
        if head == "tokens":
            ours, theirs = ours[real], theirs[real]
        assert np.abs(ours - theirs).max() < 2e-5, lengths


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_long_text_gets_the_same_bits_as_with_all_heads_at_once(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("bert", head="tokens")
    if precision == "int8":
        edits.quantize_int8(model)
    by_heads = saved(model, tmp_path / "by_heads.onnx")
    monkeypatch.setattr(packing, "LONG", 1000)
    at_once = saved(model, tmp_path / "at_once.onnx")
    for lengths in BATCHES:
        batch = padded_batch(lengths=lengths)
        assert np.array_equal(run_file(by_heads, batch), run_file(at_once, batch)), lengths


def test_layers_with_as_many_parts_share_one_function() -> None:
    proto = build(uneven_model("bert", head="tokens"), ExportConfig())  # 2, 3 and 4 heads
    assert [function.name for function in proto.functions] == ["AttentionIn2Parts"]
    parts = {tensor.name: onnx.numpy_helper.to_array(tensor).tolist() for tensor in proto.graph.initializer}
    assert [parts[node.input[3]] for node in calls(proto)] == [[2, 1], [2, 2]]


def test_a_layer_of_two_heads_has_nothing_to_part() -> None:
    model = tiny_model("bert")
    edits.keep_heads(model, {0: [1, 3], 1: [0, 2]})
    proto = build(model, ExportConfig())
    assert not proto.functions
    assert OWN not in {entry.domain for entry in proto.opset_import}


def test_first_tokens_and_other_forms_do_without() -> None:
    # The last layer of a classifier has one query a text.
    assert len(list(calls(build(tiny_model("bert"), ExportConfig())))) == 1
    for form in (Form(rows="padded"), Form(attention="kernel")):
        assert not build(tiny_model("bert", head="tokens"), ExportConfig(), form).functions
    assert not build(tiny_model("bert", head="tokens"), ExportConfig(optimize=False)).functions


def test_a_function_has_names_of_its_own() -> None:
    graph = GraphBuilder()
    graph.node("Identity", ["input_ids"], "same")

    def write() -> None:
        graph.node("Identity", ["given"], "same")

    for _ in range(2):
        assert graph.function("Twice", ["given"], "same", write) == "Twice"
    with pytest.raises(ValueError, match="two values of the graph are called same"):
        graph.node("Identity", ["input_ids"], "same")

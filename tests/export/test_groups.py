"""Large batches go through the graph group by group; what a text gets does not depend on how they are cut."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from compressbert.config.schema import ExportConfig
from compressbert.export.form import Form
from compressbert.export.groups import group_rows, ungrouped
from compressbert.export.write import build
from compressbert.model import edits
from compressbert.model.handle import Model
from compressbert.model.pooling import Pooling
from tests.export.stand import run_file, run_network, tiny_model, uneven_model
from tests.tiny import FAMILIES, padded_batch

Batch = dict[str, torch.Tensor]

LENGTHS = (9, 7, 7, 2, 5, 9, 3)  # 42 real tokens in seven texts


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    """Groups of so many rows, which are fewer than any real model has."""
    wanted: int = request.param
    monkeypatch.setattr("compressbert.export.write.group_rows", lambda model: wanted)
    return wanted


def saved(model: Model, folder: Path, form: Form | None = None) -> Path:
    onnx.save(build(model, ExportConfig(), form or Form()), str(folder / "model.onnx"))
    return folder / "model.onnx"


def part(batch: Batch, first: int, end: int) -> Batch:
    return {name: values[first:end] for name, values in batch.items()}


def every_output(file: Path, batch: Batch) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    found: list[NDArray[np.float32]] = session.run(None, {name: batch[name].numpy() for name in names})
    return found


@pytest.mark.parametrize("rows", [1, 10, 20, 40, 1000], indirect=True)
@pytest.mark.parametrize("family", FAMILIES)
def test_fp32_equals_pytorch_however_the_batch_is_cut(family: str, rows: int, tmp_path: Path) -> None:
    model, batch = uneven_model(family), padded_batch(family, lengths=LENGTHS)
    file = saved(model, tmp_path)
    assert np.abs(run_file(file, batch) - run_network(model, batch)).max() < 2e-5
    full = padded_batch(family, lengths=(6,) * 7)
    assert np.abs(run_file(file, full) - run_network(model, full)).max() < 2e-5


@pytest.mark.parametrize(
    ("rows", "cuts"),
    [
        (1000, [0, 7]),
        (42, [0, 7]),
        (28, [0, 4, 7]),  # 42 tokens are 1.5 groups of 28, which are two: 4 texts and 3
        (29, [0, 7]),  # and 1.45 of 29, which are one
        (17, [0, 4, 7]),
        (14, [0, 3, 6, 7]),
        (1, [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
    indirect=["rows"],
)
def test_int8_ranges_are_those_of_a_group(rows: int, cuts: list[int], tmp_path: Path) -> None:
    """To the last bit: what a group's texts get is what they get as a batch of their own."""
    model, batch = uneven_model("bert"), padded_batch(lengths=LENGTHS)
    edits.quantize_int8(model)
    (folder := tmp_path / "whole").mkdir()
    file, whole = saved(model, tmp_path), saved(model, folder, Form(texts="together"))
    alone = [run_file(whole, part(batch, *bounds)) for bounds in pairwise(cuts)]
    assert np.array_equal(run_file(file, batch), np.concatenate(alone))


@pytest.mark.parametrize("rows", [10], indirect=True)
@pytest.mark.parametrize("head", ["tokens", "answers", "pooled-none", "none"])
def test_every_output_of_every_head_is_joined(head: str, rows: int, tmp_path: Path) -> None:
    model, batch = tiny_model("bert", head=head.removeprefix("pooled-")), padded_batch(lengths=LENGTHS)
    model.pooling = Pooling("mean", normalize=True) if head == "pooled-none" else None
    (folder := tmp_path / "whole").mkdir()
    found = every_output(saved(model, tmp_path), batch)
    whole = every_output(saved(model, folder, Form(texts="together")), batch)
    real = batch["attention_mask"].numpy() == 1
    assert len(found) == len(whole) >= 1
    for ours, theirs in zip(found, whole, strict=True):
        assert ours.shape == theirs.shape
        per_token = ours.shape[:2] == real.shape
        np.testing.assert_allclose(
            ours[real] if per_token else ours, theirs[real] if per_token else theirs, atol=2e-5
        )


def test_a_group_has_room_in_the_cache_and_is_worth_a_call() -> None:
    model = tiny_model("bert")
    layers = model.family.layers(model.network)
    widest = max(layer.ffn for layer in layers)
    assert group_rows(model) == 3 * 2**20 // (4 * widest)


def test_without_the_loop_the_graph_computes_the_same(tmp_path: Path) -> None:
    model, batch = uneven_model("bert"), padded_batch()
    file = saved(model, tmp_path)
    expected = run_file(file, batch)
    bare = ungrouped(onnx.load(str(file)))
    assert "Loop" not in [node.op_type for node in bare.graph.node]
    onnx.save(bare, str(file))
    assert np.array_equal(run_file(file, batch), expected)


def test_scores_of_a_vocabulary_are_not_cut() -> None:
    nodes = build(tiny_model("bert", head="masked-lm"), ExportConfig()).graph.node
    assert not any(node.name.startswith("groups.") for node in nodes)
    together = build(tiny_model("bert"), ExportConfig(), Form(texts="together")).graph.node
    assert not any(node.name.startswith("groups.") for node in together)

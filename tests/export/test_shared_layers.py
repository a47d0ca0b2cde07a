"""ALBERT's graph: embeddings of their own width, and weights that all layers share stored once in every format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from compressbert.config.schema import ExportConfig
from compressbert.export.form import candidates
from compressbert.export.graph import every_node
from compressbert.export.variants import Precision
from compressbert.export.write import FILES, build, export_onnx
from compressbert.model.pooling import Pooling
from tests.export.stand import run_file, run_network, tiny_model, uneven_model
from tests.tiny import padded_batch

UNEVEN = (13, 9, 4, 2)
LAYERS = {"shared": {}, "groups": {"num_hidden_groups": 2}, "blocks": {"inner_group_num": 2}}


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4", "int8-weight-only"])
def test_shared_weights_are_one_initializer_however_many_layers_read_them(
    precision: Precision, tmp_path: Path
) -> None:
    sizes, readers = [], []
    for layers in (1, 6):
        model = tiny_model("albert", layers=layers)
        folder = tmp_path / str(layers)
        export_onnx(model, folder, ExportConfig(precision=precision))
        graph = onnx.load(str(folder / FILES[precision])).graph
        query = "albert.encoder.albert_layer_groups.0.albert_layers.0.attention.query.weight"
        names = [each.name for each in graph.initializer]
        assert names.count(query) == 1
        readers.append(sum(query in node.input for node in every_node(graph)))
        sizes.append({each.name: len(each.raw_data) for each in graph.initializer})
    assert readers == [1, 6]
    # a longer model has the same weights; only the shapes of the first-token layer's branches may come and go
    weights = [{name: size for name, size in each.items() if name.startswith("albert")} for each in sizes]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("layers", list(LAYERS))
@pytest.mark.parametrize("head", ["classification", "masked-lm", "tokens", "answers", "none"])
def test_every_head_agrees_on_uneven_batches(head: str, layers: str, tmp_path: Path) -> None:
    model = tiny_model("albert", layers=2, head=head, **LAYERS[layers])
    model.pooling = Pooling("mean", normalize=True) if head == "none" else None
    facts = export_onnx(model, tmp_path / "out", ExportConfig(precision="both"))
    assert facts.route == "direct"
    batch = padded_batch("albert", lengths=UNEVEN)
    ours, theirs = run_file(facts.files["fp32"], batch), run_network(model, batch)
    if head == "answers":
        theirs = theirs[..., 0]
    if ours.ndim == 3 or head == "answers":
        real = batch["attention_mask"].numpy() == 1
        ours, theirs = ours[real], theirs[real]
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("form", candidates(), ids=lambda form: str(form.changes()))
def test_every_form_agrees(form: Any, tmp_path: Path) -> None:
    model = uneven_model("albert")
    facts = export_onnx(model, tmp_path / "out", ExportConfig(precision="both"), form=form)
    batch = padded_batch("albert", lengths=UNEVEN)
    np.testing.assert_allclose(run_file(facts.files["fp32"], batch), run_network(model, batch), atol=2e-5)


def test_the_last_layer_computes_first_tokens_alone() -> None:
    graph = build(tiny_model("albert", layers=3), ExportConfig()).graph
    firsts = [value for node in every_node(graph) for value in node.output if value.endswith(".first_token")]
    assert firsts == ["layers.2.first_token"]


def test_embeddings_are_mapped_after_their_norm() -> None:
    graph = build(tiny_model("albert", layers=1), ExportConfig()).graph
    writes = {node.output[0]: node for node in every_node(graph)}
    mapped = writes["embeddings.output"]
    assert mapped.input[1] == "albert.encoder.embedding_hidden_mapping_in.weight"
    assert writes[mapped.input[0]].op_type == "LayerNormalization"

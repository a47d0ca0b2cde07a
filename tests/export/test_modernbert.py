"""ModernBERT's graph: rotary positions, windows, gates and norms in front agree with PyTorch, for any mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from compressbert.config.schema import ExportConfig
from compressbert.export.blocks import FirstTokenLayer, first_token_layer
from compressbert.export.form import candidates
from compressbert.export.graph import every_node
from compressbert.export.variants import Precision
from compressbert.export.write import export_onnx, is_direct
from compressbert.model.handle import Model
from compressbert.model.pooling import Pooling
from tests.export.stand import run_file, run_network, tiny_model, uneven_model
from tests.tiny import padded_batch

# Windows reach 4 tokens to either side: the first lengths fit into it, the others do not.
LENGTHS = ((5, 3, 2), (5, 5), (13, 9, 4, 2), (12, 12))
HEADS: dict[str, dict[str, Any]] = {
    "classification": {},
    "classification of the mean": {"classifier_pooling": "mean"},
    "masked-lm": {},
    "tokens": {},
    "answers": {},
    "none": {},
}


def agrees(file: Path, model: Any, batch: dict[str, torch.Tensor], atol: float = 2e-5) -> None:
    ours, theirs = run_file(file, batch), run_network(model, batch)
    if theirs.ndim == 3:
        real = batch["attention_mask"].numpy() == 1
        if ours.ndim == 2 and theirs.shape[-1] == 2:  # starts of answers
            theirs = theirs[..., 0]
        ours, theirs = (ours, theirs) if model.pooling else (ours[real], theirs[real])
    np.testing.assert_allclose(ours, theirs, atol=atol)


@pytest.mark.parametrize("name", list(HEADS))
def test_every_head_agrees_within_and_beyond_the_window(name: str, tmp_path: Path) -> None:
    model = tiny_model("modernbert", layers=3, head=name.split(maxsplit=1)[0], **HEADS[name])
    model.pooling = Pooling("mean", normalize=True) if name == "none" else None
    facts = export_onnx(model, tmp_path / "out", ExportConfig(precision="both"))
    assert facts.route == "direct"
    for lengths in LENGTHS:
        batch = padded_batch("modernbert", lengths=lengths)
        if model.pooling:
            with torch.inference_mode():
                expected = model(**batch).sentence_embedding.numpy()
            np.testing.assert_allclose(run_file(facts.files["fp32"], batch), expected, atol=2e-5)
        else:
            agrees(facts.files["fp32"], model, batch)


@pytest.mark.parametrize("form", candidates(), ids=lambda form: str(form.changes()))
def test_every_form_agrees(form: Any, tmp_path: Path) -> None:
    model = uneven_model("modernbert")
    facts = export_onnx(model, tmp_path / "out", ExportConfig(precision="both"), form=form)
    for lengths in LENGTHS:
        agrees(facts.files["fp32"], model, padded_batch("modernbert", lengths=lengths))


@pytest.mark.parametrize("precision", ["int8", "int4", "int8-weight-only"])
def test_a_window_hides_what_is_beyond_it_in_every_format(precision: Precision, tmp_path: Path) -> None:
    kinds = {"layer_types": ["sliding_attention"] * 2}
    model = tiny_model("modernbert", layers=2, head="tokens", **kinds)
    file = export_onnx(model, tmp_path / "out", ExportConfig(precision=precision)).files[precision]
    batch = padded_batch("modernbert", lengths=(14, 14))
    other = {name: value.clone() for name, value in batch.items()}
    other["input_ids"][:, 13] = (other["input_ids"][:, 13] - 4) % 30 + 5  # two layers see 8 tokens away
    before, after = run_file(file, batch), run_file(file, other)
    apart = np.abs(before - after).max(axis=-1)
    assert (apart[:, 9:13] > 1e-4).any()
    if precision != "int8":  # whose activations take their range from the whole batch
        assert (apart[:, :5] == 0).all()


@pytest.mark.parametrize("lengths", LENGTHS)
def test_hidden_tokens_anywhere_change_no_other_token(lengths: tuple[int, ...], tmp_path: Path) -> None:
    model = tiny_model("modernbert", layers=3, head="tokens")
    file = export_onnx(model, tmp_path / "out", ExportConfig()).files["fp32"]
    batch = padded_batch("modernbert", lengths=lengths)
    batch["attention_mask"][:, 1] = 0  # a hole
    agrees(file, model, batch)
    batch["attention_mask"][0, 0] = 0  # and one at the beginning
    agrees(file, model, batch)


def test_first_token_layers_compute_the_first_row() -> None:
    for family in ("bert", "albert", "modernbert"):
        model = tiny_model(family, layers=3)
        batch = padded_batch(family, lengths=(11, 6))
        with torch.inference_mode():
            whole = model.network.base_model(**batch).last_hidden_state[:, :1]
            cut = first_token_layer(model)
            assert isinstance(cut, FirstTokenLayer) == (family != "modernbert")
            model.family.run_blocks(model.network, [*model.family.blocks(model.network)[:-1], cut])
            first = model.network.base_model(**batch).last_hidden_state
        torch.testing.assert_close(first, whole, atol=1e-5, rtol=0)


def test_nothing_is_turned_or_windowed_that_need_not_be(tmp_path: Path) -> None:
    model = tiny_model("modernbert", layers=2)  # one layer attends everywhere, the other one in a window
    file = export_onnx(model, tmp_path / "out", ExportConfig()).files["fp32"]
    proto = onnx.load(str(file))
    assert {entry.key: entry.value for entry in proto.metadata_props}["oldest_onnxruntime"] == "1.20"
    nodes = list(every_node(proto.graph))
    assert (
        sum(node.op_type == "RotaryEmbedding" for node in nodes) == 3
    )  # the last layer's first queries are not
    assert (
        sum(node.op_type == "Softmax" for node in nodes) == 2 + 4
    )  # a layer's two branches, twice for a window


def scaled_model() -> Model:
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    return tiny_model("modernbert", rope_parameters={"full_attention": scaled, "sliding_attention": scaled})


def test_scaled_positions_are_not_written_directly() -> None:
    assert is_direct(tiny_model("modernbert"))
    assert not is_direct(scaled_model())


@pytest.mark.slow
def test_scaled_positions_are_left_to_the_exporter_of_pytorch(tmp_path: Path) -> None:
    facts = export_onnx(scaled_model(), tmp_path / "out", ExportConfig())
    assert facts.route == "trace"
    assert "positions are scaled" in facts.notes[0]

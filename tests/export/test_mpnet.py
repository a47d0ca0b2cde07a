"""MPNet's graph: a bias for the distance of two tokens, added to scores in every layer, for any mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from compressbert.config.schema import ExportConfig
from compressbert.export.form import candidates
from compressbert.export.write import export_onnx
from compressbert.model import edits
from compressbert.model.handle import Model
from tests.export.stand import run_file, run_network, tiny_model
from tests.tiny import padded_batch

LENGTHS = ((13, 9, 4, 2), (12, 12), (1,), (64, 33))


def biased(**options: Any) -> Model:
    """With biases large enough to tell a missing one."""
    model = tiny_model("mpnet", layers=3, **options)
    torch.manual_seed(3)
    with torch.no_grad():
        model.network.base_model.encoder.relative_attention_bias.weight.normal_(0, 1)
    edits.keep_neurons(model, {0: range(10), 2: range(3, 40)})
    return model


def agrees(file: Path, model: Model, batch: dict[str, torch.Tensor]) -> None:
    ours, theirs = run_file(file, batch), run_network(model, batch)
    if theirs.ndim == 3:
        real = batch["attention_mask"].numpy() == 1
        theirs = theirs[..., 0] if ours.ndim == 2 else theirs  # starts of answers
        ours, theirs = ours[real], theirs[real]
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("head", ["classification", "masked-lm", "tokens", "answers", "none"])
def test_every_head_agrees(head: str, tmp_path: Path) -> None:
    model = biased(head=head)
    facts = export_onnx(model, tmp_path / "out", ExportConfig(precision="both"))
    assert facts.route == "direct"
    for lengths in LENGTHS:
        agrees(facts.files["fp32"], model, padded_batch("mpnet", lengths=lengths))


@pytest.mark.parametrize("form", candidates(), ids=lambda form: str(form.changes()))
def test_every_form_agrees_for_any_mask(form: Any, tmp_path: Path) -> None:
    model = biased(head="tokens")
    facts = export_onnx(model, tmp_path / "out", ExportConfig(precision="both"), form=form)
    batch = padded_batch("mpnet", lengths=LENGTHS[0])
    agrees(facts.files["fp32"], model, batch)
    batch["attention_mask"][:, 1] = 0  # a hole
    agrees(facts.files["fp32"], model, batch)
    batch["attention_mask"][0, :3] = 0  # and padding on the left
    agrees(facts.files["fp32"], model, batch)


def test_biases_are_stored_once_for_all_layers(tmp_path: Path) -> None:
    file = export_onnx(biased(), tmp_path / "out", ExportConfig()).files["fp32"]
    tables = [each for each in onnx.load(str(file)).graph.initializer if "bias.table" in each.name]
    assert [list(table.dims) for table in tables] == [[4, 2 * 66 - 1]]

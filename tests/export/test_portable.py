"""int8 files for CPUs without VNNI: proven exact, made exact, or said to be valid on others only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from compressbert.config.schema import DataConfig, ExportConfig, ExportStepConfig, ModelSource
from compressbert.export.portable import portability
from compressbert.export.write import export_onnx
from compressbert.model import edits
from compressbert.model.checkpoint import save
from compressbert.model.handle import Model
from compressbert.nn.saturation import without_vnni
from compressbert.pipeline.steps.export import export
from tests.export.stand import run_file, run_network, tiny_model, uneven_model
from tests.tiny import FAMILIES, padded_batch, toy_rows, write_rows


def saturating_model() -> Model:
    """Weights of one sign, so that full-range int8 saturates wherever a CPU adds in 16 bits."""
    model = tiny_model("bert")
    with torch.no_grad():
        for layer in model.family.layers(model.network):
            layer.ffn_in.weight.abs_().add_(0.3)
            layer.value.weight.abs_().add_(0.3)
    return model


def test_every_family_is_exact_everywhere_by_default(tmp_path: Path) -> None:
    for family in FAMILIES:
        model = uneven_model(family)
        facts = export_onnx(model, tmp_path / family, ExportConfig(precision="int8"))
        assert facts.portability is not None
        assert (facts.portability.valid_on, facts.portability.saturating_pairs) == ("any", 0)
        assert facts.portability.pairs > 1000
        assert all("AMX" in note for note in facts.notes)  # ragged widths need a newer onnxruntime there
        assert export_onnx(model, tmp_path / "fp32", ExportConfig()).portability is None


def test_a_portable_file_gives_what_pytorch_gives_without_vnni_and_a_naive_one_does_not(
    tmp_path: Path,
) -> None:
    batch = padded_batch("bert")
    differences = {}
    for portable in (True, False):
        model = saturating_model()
        settings = ExportConfig(portable=portable, precision="int8", optimize=False)
        file = export_onnx(model, tmp_path / str(portable), settings).files["int8"]
        edits.quantize_int8(model, portable=portable)
        with without_vnni(model.network):
            emulated = run_network(model, batch)
        differences[portable] = float(np.abs(emulated - run_file(file, batch)).max())
    assert differences[True] < 0.02  # rounding steps of two runtimes
    assert differences[False] > 10 * differences[True]


def test_an_old_int8_model_is_made_exact_and_left_as_it_is(tmp_path: Path) -> None:
    model = saturating_model()
    edits.quantize_int8(model, portable=False)
    before = run_network(model, padded_batch())
    found = export_onnx(model, tmp_path / "out", ExportConfig()).portability
    assert found is not None
    assert (found.valid_on, found.saturating_pairs) == ("any", 0)
    assert found.rescaled_rows > 0
    assert portability(model).saturating_pairs > 0
    assert np.array_equal(run_network(model, padded_batch()), before)


def test_the_record_says_where_a_naive_file_is_valid_and_what_it_loses_elsewhere(tmp_path: Path) -> None:
    model = saturating_model()
    edits.quantize_int8(model, portable=False)
    save(model, tmp_path / "int8")
    data = DataConfig(validation=str(write_rows(tmp_path / "rows.jsonl", toy_rows(40))), labels=("0", "1"))
    config = ExportStepConfig(
        model=ModelSource(path=str(tmp_path / "int8")),
        export=ExportConfig(portable=False),
        output=str(tmp_path / "out"),
    )
    result = export(config, data=data)
    assert result.portability is not None
    assert result.portability.valid_on == "vnni"
    assert result.portability.quality_without_vnni.keys() == result.quality.keys()
    assert any("saturate on CPUs without VNNI" in note for note in result.notes)

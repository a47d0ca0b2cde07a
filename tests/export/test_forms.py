"""Every form of the graph computes the same, whatever the family, the precision and the padding."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import pytest

from compressbert.config.schema import ExportConfig
from compressbert.export.form import Form, candidates
from compressbert.export.graph import every_node
from compressbert.export.write import build, export_onnx
from tests.export.stand import run_file, run_network, tiny_model, uneven_model
from tests.tiny import FAMILIES, padded_batch

ALL_CHANGES = Form(rows="packed", attention="kernel", qkv="joined", norm="skip")
FORMS = (*candidates()[1:], ALL_CHANGES)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(form.changes().values()))
@pytest.mark.parametrize("family", FAMILIES)
def test_fp32_equals_pytorch(family: str, form: Form, tmp_path: Path) -> None:
    model = uneven_model(family)
    file = export_onnx(model, tmp_path / "out", ExportConfig(), form=form).files["fp32"]
    for seed, lengths in enumerate([(9, 5, 2), (1,), (64, 33), (4, 4)]):
        batch = padded_batch(family, lengths=lengths, seed=seed)
        assert np.abs(run_file(file, batch) - run_network(model, batch)).max() < 1e-5


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(form.changes().values()))
@pytest.mark.parametrize("family", FAMILIES)
def test_int8_passes_the_check_of_every_block(family: str, form: Form, tmp_path: Path) -> None:
    facts = export_onnx(uneven_model(family), tmp_path / "out", ExportConfig(precision="int8"), form=form)
    difference = facts.parity["int8"].block_difference
    assert difference is not None
    assert difference < 0.1


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(form.changes().values()))
def test_all_tokens_of_a_masked_lm(form: Form, tmp_path: Path) -> None:
    model, batch = tiny_model("bert", head="masked-lm"), padded_batch("bert")
    onnx.save(build(model, ExportConfig(), form), str(tmp_path / "model.onnx"))
    real = batch["attention_mask"].numpy() == 1
    difference = run_file(tmp_path / "model.onnx", batch) - run_network(model, batch)
    assert np.abs(difference[real]).max() < 2e-5


@pytest.mark.parametrize(("precision", "operator"), [("fp32", "Gemm"), ("int8", "MatMulIntegerToFloat")])
def test_forms_are_what_they_say(precision: Literal["fp32", "int8"], operator: str, tmp_path: Path) -> None:
    def operators(form: Form) -> list[str]:
        settings = ExportConfig(precision=precision)
        file = export_onnx(
            tiny_model("bert", layers=3), tmp_path / str(len(form.changes())), settings, form=form
        )
        return [node.op_type for node in every_node(onnx.load(str(file.files[precision])).graph)]

    default, changed = operators(Form()), operators(ALL_CHANGES)
    assert default.count(operator) - changed.count(operator) == 2 * 2  # the last layer has a query of its own
    assert default.count("MultiHeadAttention") == default.count("SkipLayerNormalization") == 0
    assert changed.count("MultiHeadAttention") == 3
    assert changed.count("SkipLayerNormalization") == 6


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_attention_without_speed_ups_is_standard_and_onnxruntime_fuses_it(
    precision: Literal["fp32", "int8"], tmp_path: Path
) -> None:
    settings = ExportConfig(precision=precision, optimize=False)
    (file,) = export_onnx(tiny_model("bert"), tmp_path / "out", settings).files.values()
    assert "FusedMatMul" not in {node.op_type for node in every_node(onnx.load(str(file)).graph)}
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "fused.onnx"), 3
    onnxruntime.InferenceSession(str(file), options)
    fused = [
        {attribute.name for attribute in node.attribute if attribute.i}
        for node in every_node(onnx.load(str(tmp_path / "fused.onnx")).graph)
        if node.op_type == "FusedMatMul"
    ]
    assert fused == 2 * [{"transBatchA", "transBatchB", "transB"}, {"transBatchB"}]  # two layers

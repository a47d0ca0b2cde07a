"""`verify` opens what was written in every loader present, and does not run code it does not know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from compressbert import save
from compressbert.config.schema import ExportConfig
from compressbert.errors import InputError
from compressbert.export.verify import verify
from compressbert.export.write import export_onnx
from compressbert.model.remote_code import FILE
from tests.export.stand import tiny_model, uneven_model


def statuses(folder: Path) -> dict[str, str]:
    return {check.loader: check.status for check in verify(folder)}


def test_an_export_folder_opens_in_onnxruntime(tmp_path: Path) -> None:
    export_onnx(uneven_model("bert"), tmp_path / "out", ExportConfig(precision="both"))
    found = statuses(tmp_path / "out")
    assert found["onnxruntime (model.onnx)"] == found["onnxruntime (model_quantized.onnx)"] == "ok"
    assert not any(loader.startswith("transformers") for loader in found)
    assert statuses(tmp_path / "out/onnx/model.onnx")["onnxruntime"] == "ok"


def test_what_is_not_installed_is_listed_as_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "openvino" else object())
    export_onnx(tiny_model("bert"), tmp_path / "out", ExportConfig())
    (check,) = [check for check in verify(tmp_path / "out") if check.loader == "openvino"]
    assert (check.status, check.max_difference) == ("absent", None)
    assert "openvino" in check.detail


def test_a_damaged_file_fails(tmp_path: Path) -> None:
    file = export_onnx(tiny_model("bert"), tmp_path / "out", ExportConfig()).files["fp32"]
    proto = onnx.load(str(file))
    proto.graph.node[5].op_type = "NoSuchOperator"
    onnx.save(proto, str(file))
    (check,) = [check for check in verify(file) if check.loader == "onnxruntime"]
    assert check.status == "failed"
    assert "NoSuchOperator" in check.detail


def test_a_file_that_answers_nan_fails(tmp_path: Path) -> None:
    file = export_onnx(tiny_model("bert"), tmp_path / "out", ExportConfig()).files["fp32"]
    proto = onnx.load(str(file))
    (bias,) = [tensor for tensor in proto.graph.initializer if tensor.name == "classifier.bias"]
    bias.raw_data = (numpy_helper.to_array(bias) * np.float32("nan")).tobytes()
    onnx.save(proto, str(file))
    assert statuses(file)["onnxruntime"] == "failed"


def test_a_model_folder_with_code_opens_in_plain_transformers(tmp_path: Path) -> None:
    save(uneven_model("bert"), tmp_path / "model")
    assert (tmp_path / "model" / FILE).is_file()
    ours, theirs = verify(tmp_path / "model")
    assert (ours.loader, ours.status) == ("compressbert", "ok")
    assert (theirs.loader, theirs.status, theirs.detail) == ("transformers", "ok", "")
    assert theirs.max_difference is not None
    assert theirs.max_difference < 1e-6


def test_code_that_was_changed_is_not_run(tmp_path: Path) -> None:
    save(uneven_model("bert"), tmp_path / "model")
    marker = tmp_path / "ran"
    with (tmp_path / "model" / FILE).open("a") as file:
        file.write(f"\nopen({str(marker)!r}, 'w').close()\n")
    ours, theirs = verify(tmp_path / "model")
    assert ours.status == "ok"
    assert theirs.status == "failed"
    assert "not run" in theirs.detail
    assert not marker.exists()


def test_nothing_to_open(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither a model nor an \.onnx file"):
        verify(tmp_path)

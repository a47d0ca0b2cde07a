"""Every export in every loader for real. `make test-loaders` makes the environments and runs this."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from compressbert.config.schema import ExportConfig
from compressbert.export import environments, trace
from compressbert.export.targets import triton_config
from compressbert.export.verify import verify
from compressbert.export.write import export_onnx
from compressbert.model.handle import Model
from tests.export.stand import tiny_model, uneven_model

pytestmark = pytest.mark.loaders

LOADERS = {
    "oldest onnxruntime": "onnxruntime-oldest",
    "optimum": "optimum",
    "transformers.js": "transformers.js",
}
MODELS = {
    "bert": lambda: tiny_model("bert"),
    "uneven": lambda: uneven_model("bert"),
    "roberta": lambda: tiny_model("roberta"),
    "distilbert": lambda: tiny_model("distilbert"),
    "electra": lambda: tiny_model("electra"),
    "masked-lm": lambda: tiny_model("bert", head="masked-lm"),
}


@pytest.fixture
def present() -> None:
    """Skip unless the environments were made; COMPRESSBERT_LOADERS must name them."""
    missing = [name for name in LOADERS.values() if environments.find(name) is None]
    if "COMPRESSBERT_LOADERS" not in os.environ or missing:
        pytest.skip(
            f"no environments of loaders ({', '.join(missing) or 'unnamed'}); make test-loaders makes them"
        )


@pytest.mark.usefixtures("present")
@pytest.mark.parametrize("name", MODELS)
def test_every_loader_opens_the_export_and_agrees(name: str, tmp_path: Path) -> None:
    """Tokenizers are compared too, pairs among the texts. Widths of the uneven model need a newer onnxruntime."""
    model: Model = MODELS[name]()
    export_onnx(model, tmp_path / "out", ExportConfig(precision="both"))
    checks = {check.loader: check for check in verify(tmp_path / "out")}
    for loader in ("onnxruntime", *LOADERS):
        for file in ("model.onnx", "model_quantized.onnx"):
            ragged = name == "uneven" and (loader, file) == ("oldest onnxruntime", "model_quantized.onnx")
            check = checks[f"{loader} ({file})"]
            assert check.status == ("unfit" if ragged else "ok"), check
    assert checks["oldest onnxruntime (model.onnx)"].detail == environments.oldest_onnxruntime()


@pytest.mark.usefixtures("present")
def test_openvino_reads_traced_files_and_is_kept_from_ours(tmp_path: Path) -> None:
    if environments.find("openvino") is None:
        pytest.skip("no environment openvino; make test-loaders makes it")
    model = tiny_model("bert")
    export_onnx(model, tmp_path / "out", ExportConfig())
    trace.export(model, tmp_path / "traced.onnx", opset=17)
    shutil.copy(tmp_path / "out" / "config.json", tmp_path)
    ours = {check.loader: check for check in verify(tmp_path / "out")}["openvino"]
    traced = {check.loader: check for check in verify(tmp_path / "traced.onnx")}["openvino"]
    assert (ours.status, traced.status) == ("unfit", "ok"), (ours, traced)


@pytest.mark.usefixtures("present")
def test_tritons_own_message_reads_the_config(tmp_path: Path) -> None:
    folder = environments.find("triton")
    if folder is None:
        pytest.skip("no environment triton; make test-loaders makes it")
    file = export_onnx(tiny_model("bert"), tmp_path / "out", ExportConfig()).files["fp32"]
    text = triton_config(file, "served", with_labels=True)
    program = (
        "import sys, json; from google.protobuf import json_format, text_format\n"
        "from tritonclient.grpc.model_config_pb2 import ModelConfig\n"
        "print(json_format.MessageToJson(text_format.Parse(sys.stdin.read(), ModelConfig())))"
    )
    command = [environments.python_of(folder), "-c", program]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    config = json.loads(done.stdout)
    assert (config["name"], config["backend"], config["maxBatchSize"]) == ("served", "onnxruntime", 32)
    assert [(tensor["name"], tensor["dataType"], tensor["dims"]) for tensor in config["input"]] == [
        ("input_ids", "TYPE_INT64", ["-1"]),
        ("attention_mask", "TYPE_INT64", ["-1"]),
        ("token_type_ids", "TYPE_INT64", ["-1"]),
    ]
    output = {"name": "logits", "dataType": "TYPE_FP32", "dims": ["2"], "labelFilename": "labels.txt"}
    assert config["output"] == [output]
    assert config["instanceGroup"] == [{"count": 1, "kind": "KIND_CPU"}]

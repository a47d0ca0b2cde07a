"""Every export in every loader for real. `make test-loaders` makes the environments and runs this."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compressbert.config.schema import ExportConfig
from compressbert.export import environments
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
    model: Model = MODELS[name]()
    export_onnx(model, tmp_path / "out", ExportConfig(precision="both"))
    checks = {check.loader: check for check in verify(tmp_path / "out")}
    for loader in ("onnxruntime", *LOADERS):
        for file in ("model.onnx", "model_quantized.onnx"):
            check = checks[f"{loader} ({file})"]
            assert check.status == "ok", check
    oldest = checks["oldest onnxruntime (model.onnx)"]
    assert oldest.detail == environments.oldest_onnxruntime()

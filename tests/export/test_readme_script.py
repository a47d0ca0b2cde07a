"""The README's script for users of an export: run as it stands, where neither compressbert nor transformers exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from compressbert.api import export
from compressbert.config.schema import ExportConfig, ExportStepConfig
from tests.tiny import save_tiny, tiny_network, tiny_tokenizer

README = Path(__file__).resolve().parents[2] / "README.md"
BLOCK = "import sys\nfor name in ('compressbert', 'transformers', 'torch', 'onnx'):\n    sys.modules[name] = None\n"


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_the_script_prints_the_label(family: str, tmp_path: Path) -> None:
    scripts = re.findall(
        r"```python\n(import json, onnxruntime.*?)```", README.read_text(encoding="utf-8"), re.DOTALL
    )
    assert len(scripts) == 1
    assert len([line for line in scripts[0].splitlines() if line]) == 6  # the imports and five lines
    export(
        ExportStepConfig(
            model={"path": str(save_tiny(tmp_path / "model", family))},
            export=ExportConfig(precision="int8"),
            output=str(tmp_path / "runs" / "onnx"),
        )
    )
    done = subprocess.run(
        [sys.executable, "-c", BLOCK + scripts[0]], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    text = tiny_tokenizer(family)("a gripping, beautifully shot film", return_tensors="pt")
    with torch.inference_mode():
        winner = int(tiny_network(family)(**text).logits.argmax())
    assert done.stdout == ["negative\n", "positive\n"][winner]

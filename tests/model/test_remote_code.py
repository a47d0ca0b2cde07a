"""Folders opened by plain transformers in a process where compressbert cannot be imported."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

from compressbert.model import edits
from compressbert.model.checkpoint import load, save
from compressbert.model.remote_code import manifest
from compressbert.model.stock import quiet
from tests.model.build import tiny_model
from tests.tiny import FAMILIES, own_weights, padded_batch

PLAIN = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "compressbert":
            raise ImportError("compressbert is not installed here")
sys.meta_path.insert(0, Blocked())
import json, pathlib, torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging
logging.set_verbosity_error(); logging.disable_progress_bar()
found = {}
for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    kept = load_file(folder / "expected.safetensors")
    expected, batch = kept.pop("logits"), kept
    auto = AutoModelForMaskedLM if "masked-lm" in folder.name else AutoModelForSequenceClassification
    model, report = auto.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
    encoder, bare = AutoModel.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
    AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        logits = model(**batch).logits
        states = encoder(**batch).last_hidden_state - model.base_model(**batch).last_hidden_state
    found[folder.name] = {
        "logits": float((logits - expected).abs().max()), "states": float(states.abs().max()),
        "report": [str(key) for keys in report.values() for key in keys], "bare": list(bare["missing_keys"]),
        "class": type(model).__name__,
    }
print(json.dumps(found))
"""

CASES = [f"{family} {rest}" for family in FAMILIES for rest in ("classification heads", "masked-lm int8")]
CASES += ["bert classification hidden", "electra masked-lm hidden"]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    root = tmp_path_factory.mktemp("folders")
    for case in CASES:
        family, head, kind = case.split()
        model = tiny_model(family, head=head, **own_weights(family))
        edits.keep_heads(model, {0: [0, 2], 1: [3]})
        if kind != "heads":
            edits.keep_hidden(model, range(3, 30))
        if kind == "int8":
            edits.keep_neurons(model, {1: range(9)})
            edits.quantize_int8(model)
        save(model, root / case)
        batch = padded_batch(family)
        with torch.no_grad():
            expected = {**batch, "logits": model(**batch).logits}
        save_file(
            {name: value.contiguous() for name, value in expected.items()},
            root / case / "expected.safetensors",
        )
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, str(root)],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env={"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path_factory.mktemp("hf"))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, dict[str, object]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("case", CASES)
def test_plain_transformers_gives_our_logits(opened: dict[str, dict[str, object]], case: str) -> None:
    found = opened[case]
    assert found["logits"] == 0.0
    assert found["states"] == 0.0
    assert found["report"] == []
    assert found["bare"] == []
    assert str(found["class"]).startswith("Compressed")


def test_code_is_as_small_as_the_model_needs(tmp_path: Path) -> None:
    model = tiny_model("bert")
    assert manifest(model.network) == {}
    edits.keep_heads(model, {1: [0, 1, 2]})
    assert manifest(model.network) == {
        **{
            f"bert.encoder.layer.1.attention.self.{name}": {"kind": "linear", "shape": [24, 32], "bias": True}
            for name in ("query", "key", "value")
        },
        "bert.encoder.layer.1.attention.output.dense": {"kind": "linear", "shape": [32, 24], "bias": True},
    }
    save(model, tmp_path / "fp32")
    text = (tmp_path / "fp32" / "modeling_compressbert.py").read_text()
    ast.parse(text)
    assert "Int8" not in text
    assert "import compressbert" not in text
    assert "from compressbert" not in text
    edits.quantize_int8(model)
    save(model, tmp_path / "int8")
    text = (tmp_path / "int8" / "modeling_compressbert.py").read_text()
    assert "class Int8Linear" in text
    assert "from compressbert" not in text


def test_int8_tensors_are_stored_as_int8(tmp_path: Path) -> None:
    model = tiny_model("roberta")
    edits.quantize_int8(model)
    save(model, tmp_path / "m")
    tensors = load_file(tmp_path / "m" / "model.safetensors")
    assert tensors["roberta.embeddings.word_embeddings.weight"].dtype == torch.int8
    assert tensors["roberta.encoder.layer.0.output.dense.scale"].dtype == torch.float32


@pytest.mark.parametrize("quantized", [None, ["bert.embeddings.word_embeddings"]])
def test_stock_classes_refuse_int8_folders_instead_of_reading_integers_as_weights(
    tmp_path: Path, quantized: list[str] | None
) -> None:
    model = tiny_model("bert")
    edits.quantize_int8(model, modules=quantized)
    save(model, tmp_path / "m")
    with quiet(), pytest.raises(RuntimeError, match="mismatch"):
        BertForSequenceClassification.from_pretrained(tmp_path / "m")
    with quiet(), pytest.raises(RuntimeError, match="mismatch"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "m", trust_remote_code=False)


def test_older_folders_hold_int8_matrices_without_a_first_axis(tmp_path: Path) -> None:
    model = tiny_model("bert")
    edits.quantize_int8(model)
    save(model, tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    old = {name: t[0] if t.dtype == torch.int8 else t for name, t in load_file(file).items()}
    assert old["bert.encoder.layer.0.output.dense.weight"].ndim == 2
    save_file(old, file, metadata={"format": "pt"})
    again = load(tmp_path / "m")
    batch = padded_batch()
    assert torch.equal(again(**batch).logits, model(**batch).logits)

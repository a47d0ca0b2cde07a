"""The cards of written folders: their code runs, without compressbert, and they are no part of what a folder is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compressbert.config.schema import CompressConfig, ExportStepConfig, FinetuneConfig
from compressbert.pipeline.keys import model_fingerprint
from compressbert.pipeline.plan import damaged_file
from compressbert.pipeline.steps.compress import compress
from compressbert.pipeline.steps.export import export
from compressbert.pipeline.steps.finetune import finetune
from compressbert.report.card import SIGNATURE
from compressbert.results.store import read_result
from tests.tiny import save_tiny, toy_rows, write_rows

FOLDERS = ("plain", "uneven", "int8", "exported", "words", "words-exported", "pairs", "pairs-exported")
NO_PACKAGE = "import sys; sys.modules['compressbert'] = None; import os, transformers\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of each form, written by the steps."""
    place = tmp_path_factory.mktemp("cards")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPRESSBERT_CACHE", str(place / "cache"))
        write_folders(place)
    return place


def write_folders(place: Path) -> None:
    save_tiny(place / "stock")
    save_tiny(place / "masked", head="masked-lm")
    rows = str(write_rows(place / "rows.jsonl", toy_rows(40)))
    pairs = str(write_rows(place / "pairs.jsonl", toy_rows(40, pairs=True)))
    data: dict[str, Any] = {"train": rows, "validation": rows, "max_length": 48}
    train = {"max_steps": 2}

    def folder(name: str) -> dict[str, str]:
        return {"path": str(place / name)}

    def settings(model: str, output: str, **more: Any) -> dict[str, Any]:
        return {"model": folder(model), "output": str(place / output), **more}

    def shrink(kind: str, model: str, output: str, method: dict[str, Any], data: Any = data) -> None:
        compress(kind, CompressConfig.model_validate(settings(model, output, data=data, method=method)))

    int8 = {"name": "dynamic_int8"}
    both = settings("stock", "plain", data=data, train=train)
    finetune(FinetuneConfig.model_validate(both))
    finetune(FinetuneConfig.model_validate(
        settings("stock", "pairs", data={"train": pairs, "validation": pairs}, train=train)
    ))  # fmt: skip
    shrink("prune", "plain", "uneven", {"name": "michel", "keep": 0.6})
    shrink("quantize", "uneven", "int8", int8)
    shrink("quantize", "masked", "words", int8, None)
    for model, output in (("int8", "exported"), ("words", "words-exported"), ("pairs", "pairs-exported")):
        export(ExportStepConfig.model_validate(settings(model, output)))


def code_of(folder: Path) -> str:
    (block,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), flags=re.DOTALL)
    return str(block)


def test_the_code_of_every_card_runs_without_this_package(place: Path) -> None:
    """One process, so that torch is imported once; each block in its own folder and names."""
    parts = [NO_PACKAGE]
    for name in FOLDERS:
        parts.append(f"os.chdir({str(place / name)!r}); exec({code_of(place / name)!r}, {{}})\n")
    done = subprocess.run([sys.executable, "-c", "".join(parts)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = done.stdout.splitlines()
    assert len(answers) == len(FOLDERS)
    labelled = re.compile(r"\['(negative|positive)', '(negative|positive)'\]")
    for name, answer in zip(FOLDERS, answers, strict=True):
        assert bool(labelled.fullmatch(answer)) != name.startswith("words"), f"{name}: {answer}"
    assert answers[2] == answers[3]  # the int8 folder and its export answer alike
    assert answers[4] == answers[5] != ""


def test_cards_ask_for_trust_only_where_it_is_needed(place: Path) -> None:
    trusting = {
        name for name in FOLDERS if "trust_remote_code=True" in (place / name / "README.md").read_text()
    }
    assert trusting == {"uneven", "int8", "words"}
    assert 'tokenizer(["A first text.", "Another, longer text."], [' in code_of(place / "pairs")


def test_the_lineage_goes_back_to_the_first_step(place: Path) -> None:
    record = read_result(place / "exported")
    assert [step.command for step in record.lineage] == ["finetune", "prune", "quantize", "export"]
    assert [step.method for step in record.lineage] == [None, "michel", "dynamic_int8", None]
    for step, before in zip(record.lineage[1:], ("plain", "uneven", "int8"), strict=True):
        assert step.parent.sha256 == model_fingerprint(str(place / before))
    trained = record.lineage[0]
    assert trained.settings["train"]["max_steps"] == 2
    assert trained.data is not None
    assert trained.data.rows == {"train": 40, "validation": 40}
    assert "train" not in record.lineage[2].settings  # int8 trained nothing
    text = (place / "exported" / "README.md").read_text()
    assert "| 1 | finetune |" in text
    assert "rows.jsonl (40 rows)" in text


def test_a_card_is_no_part_of_what_a_folder_is(place: Path, tmp_path: Path) -> None:
    folder = place / "plain"
    record = json.loads((folder / "result.json").read_text())
    assert "README.md" not in record["files"]
    before, text = model_fingerprint(str(folder)), (folder / "README.md").read_text()
    try:
        (folder / "README.md").write_text("edited")
        assert model_fingerprint(str(folder)) == before
        assert damaged_file(folder) is None
        (folder / "README.md").unlink()
        assert model_fingerprint(str(folder)) == before
    finally:
        (folder / "README.md").write_text(text)
    (folder / "onnx").mkdir()
    try:
        (folder / "onnx" / "README.md").write_text("not the card")
        assert model_fingerprint(str(folder)) != before
    finally:
        (folder / "onnx" / "README.md").unlink()
        (folder / "onnx").rmdir()


def test_the_same_step_writes_the_same_card(place: Path, tmp_path: Path) -> None:
    method = {"name": "dynamic_int8"}
    source = {"path": str(place / "uneven")}
    texts = []
    for name in ("a/same", "b/same"):
        compress("quantize", CompressConfig.model_validate(
            {"model": source, "output": str(tmp_path / name), "method": method}
        ))  # fmt: skip
        texts.append((tmp_path / name / "README.md").read_bytes())
    assert texts[0] == texts[1]
    assert SIGNATURE.encode() in texts[0]

"""What the documents promise is run: the Python page, the Makefile of ci.md, the shipped YAML files, the README."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from compressbert.cli.app import app
from compressbert.config.schema import PipelineConfig
from tests.tiny import save_tiny, toy_rows, write_rows

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
PYTHON = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")

PIPELINE = """
model: {path: model}
data: {train: data/train.jsonl, validation: data/validation.jsonl}
steps:
  - quantize: {method: {name: dynamic_int8}}
  - export: {}
benchmark: {rounds: 2, cells: [[1, 8]], sentences: 16, warmup: 2}
"""


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def prepare(place: Path) -> None:
    save_tiny(place / "model")
    for name, rows, seed in (("train.jsonl", 120, 0), ("validation.jsonl", 40, 1)):
        write_rows(place / name, toy_rows(rows, seed=seed))
        write_rows(place / "data" / name, toy_rows(rows, seed=seed))


def test_python_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    code = blocks(PYTHON, "python")
    assert len(code) >= 5
    names: dict[str, Any] = {}
    for block in code[:-1]:  # the last one sets a listener for the whole process
        exec(compile(block, "docs/python.md", "exec"), names)
    assert names["logits"].shape == (2, 2)
    assert names["heads"] == [4, 4]
    assert [layer.heads for layer in names["same"].family.layers(names["same"].network)] == [3]
    assert sum(layer.heads for layer in names["pruned"].family.layers(names["pruned"].network)) == 6
    assert (tmp_path / "onnx" / "onnx" / "model_quantized.onnx").is_file()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_the_makefile_of_the_ci_page_reruns_only_what_changed(tmp_path: Path) -> None:
    prepare(tmp_path)
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    (tmp_path / "Makefile").write_text(blocks(CI, "make")[0])
    words = ["make", "model", f"COMPRESSBERT={sys.executable} -m compressbert"]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}

    def make() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )

    first = make()
    assert "compressbert run" in first.stdout
    exported = tmp_path / "runs" / "model" / "02-export" / "result.json"
    written = exported.stat().st_mtime_ns
    assert "compressbert run" not in make().stdout
    newer = (tmp_path / "runs" / "model" / "report.json").stat().st_mtime_ns + 10**9
    os.utime(tmp_path / "pipeline.yaml", ns=(newer, newer))
    again = make()
    assert "compressbert run" in again.stdout
    assert "skipped" in again.stderr
    assert exported.stat().st_mtime_ns == written


def test_the_workflow_of_the_ci_page_says_what_it_can_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a workflow; its commands are understood as far as their inputs; what it keeps is what a run leaves."""
    (text,) = [block for block in blocks(CI, "yaml") if "runs-on:" in block]
    workflow = yaml.safe_load(text)
    events = workflow.get("on", workflow.get(True))  # YAML 1.1 reads the key `on` as true
    assert events == ["push", "pull_request"]
    steps = workflow["jobs"]["compress"]["steps"]
    assert all(("uses" in step) != ("run" in step) for step in steps)
    commands = [
        line for step in steps for line in step.get("run", "").splitlines() if "compressbert " in line
    ]
    commands = [line for line in commands if line.startswith("compressbert ")]
    assert len(commands) >= 2
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipeline.yaml").write_text(
        "name: model\n" + PIPELINE.replace("path: model", "path: missing/model")
    )
    for command in commands:
        done = CliRunner().invoke(app, command.split()[1:])
        reads_inputs = not command.startswith("compressbert check")
        assert done.exit_code == (3 if reads_inputs else 0), f"{command}: {done.output}"
    (junit,) = [word for command in commands for word in command.split() if word.endswith(".xml")]
    kept = " ".join(step["with"]["path"] for step in steps if "upload-artifact" in step.get("uses", ""))
    assert junit in kept


@pytest.mark.parametrize(
    "block", [block for block in blocks(CI, "yaml") if "gates:" in block or "tracking:" in block]
)
def test_settings_of_the_ci_page_are_valid(block: str) -> None:
    written = yaml.safe_load(block)
    config = PipelineConfig.model_validate(
        {"model": {"path": "m"}, "data": {}, "steps": [{"export": None}], **written}
    )
    assert set(written) & {"gates", "tracking"} <= config.model_fields_set
    for name, value in (written.get("gates") or {}).items():
        assert getattr(config.gates, name) is not None, f"{name}: {value} sets nothing"


@pytest.mark.parametrize("file", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda file: file.stem)
def test_shipped_yaml_is_valid(file: Path) -> None:
    done = CliRunner().invoke(app, ["check", str(file)])
    assert done.exit_code == 0, done.output


def test_there_is_a_yaml_for_every_method() -> None:
    methods = {
        file.stem for file in (ROOT / "compressbert" / "methods").glob("*/*.py") if file.stem != "__init__"
    }
    assert len(methods) >= 5
    shipped = [file for file in (ROOT / "configs").rglob("*.yaml") if "table1" not in file.parts]
    assert methods <= {file.stem for file in shipped}


def test_the_readme_pipeline_is_valid(tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(blocks(README, "yaml")[0])
    done = CliRunner().invoke(app, ["check", str(file)])
    assert done.exit_code == 0, done.output


def readme_commands() -> list[str]:
    return [
        line.split("#")[0].strip()
        for block in blocks(README, "sh")
        for line in block.splitlines()
        if line.startswith("compressbert ")
    ]


def test_every_readme_command_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command gets as far as its inputs: code 2 would mean an option that is not there."""
    monkeypatch.chdir(tmp_path)
    commands = readme_commands()
    assert len(commands) >= 9
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    for command in commands:
        done = CliRunner().invoke(app, command.split()[1:])
        assert done.exit_code in (0, 3), f"{command}: {done.output}"


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"\bmake ([a-z0-9-]+)", README))
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:|\b{target}\b", makefile, flags=re.MULTILINE), target


@pytest.mark.parametrize("script", ["readme_methods.py", "file_map.py"])
def test_generated_parts_are_up_to_date(script: str) -> None:
    words = [sys.executable, str(ROOT / "scripts" / script), "--check"]
    assert subprocess.run(words, check=False).returncode == 0, f"run python scripts/{script}"

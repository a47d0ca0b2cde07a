"""The script of Table 1 on a toy corpus: a whole table of two methods, resumed, changed, and failing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from compressbert.cli.app import app
from compressbert.errors import ConfigError, WorkError
from compressbert.results.record import StepResult
from compressbert.results.report import Report
from compressbert.results.store import read_result
from scripts import table1
from scripts.table1_lengths import with_steps_for
from scripts.table1_page import END, gain_text, page_with, steps_of
from scripts.table1_plan import DEFAULT_KIND, Places, entries_of, tasks_of
from tests.tiny import save_tiny, toy_rows, write_rows

CONFIGS = Path(__file__).parents[1] / "configs" / "table1"
QUICK = {"rounds": 2, "cells": [[1, 8]], "sentences": 8, "warmup": 1}
TASK = {
    "model": {"path": "encoder"},
    "data": {"train": "toy/train.jsonl", "validation": "toy/validation.jsonl"},
    "train": {"max_steps": 3, "batch_size": 8, "learning_rate": 1e-3, "precision": "fp32"},
    "output": "no-such-teacher",
}


def pipeline(method: dict[str, object], control_epochs: float = 1.0) -> dict[str, object]:
    control = {"name": "compact", "layers": 1, "init": "teacher"}
    return {
        "model": {"path": "teacher"},
        "data": {"train": "train.csv"},
        "train": {"epochs": 1, "batch_size": 8, "precision": "fp32"},
        "steps": [
            {"distill": {"name": "student", "method": method}},
            {
                "distill": {
                    "name": "control",
                    "from": "input",
                    "method": control,
                    "train": {"epochs": control_epochs},
                }
            },
        ],
        "benchmark": QUICK,
        "report": {"title": "one layer"},
    }


class Commands:
    """Runs command lines in this process and remembers them; ``stop`` makes the next one die half-way."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.stop = False

    def __call__(self, words: Sequence[str], log: Path) -> int:
        if self.stop:
            raise KeyboardInterrupt
        self.done.append(f"{words[0]} {Path(words[-1]).parent.name}")
        result = CliRunner().invoke(app, list(words))
        log.write_text(result.output, encoding="utf-8")
        return result.exit_code


Fill = Callable[..., int]


@pytest.fixture
def places(tmp_path: Path) -> Places:
    found = Places(tmp_path / "configs", tmp_path / "data", tmp_path / "models", tmp_path / "runs")
    save_tiny(found.models / "encoder", head="none")
    for name, rows, seed in (("train.jsonl", 40, 0), ("validation.jsonl", 30, 1)):
        write_rows(found.data / "toy" / name, toy_rows(rows, seed=seed))
    write(found.configs / "tasks" / "toy.yaml", TASK)
    write(found.configs / "pkd.yaml", pipeline({"name": "pkd", "layers": 1}))
    write(found.configs / "distilbert.yaml", pipeline({"name": "distilbert", "layers": [0]}))
    return found


def write(file: Path, document: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(document), encoding="utf-8")


def test_a_whole_table(places: Places, tmp_path: Path) -> None:
    command, page = Commands(), tmp_path / "docs" / "table1.md"

    def fill(**options: object) -> int:
        return table1.fill(places, page, **{"command": command, "only": ("pkd", "distilbert"), **options})  # type: ignore[arg-type]

    command.stop = True
    with pytest.raises(KeyboardInterrupt):
        fill()
    command.stop = False
    assert fill() == 0
    assert command.done == ["finetune teacher", "run distilbert", "run pkd"]
    text = page.read_text(encoding="utf-8")
    assert "2 of 2 rows are done, 0 failed." in text
    (without,) = [line for line in text.splitlines() if "Without a config, and so not in it:" in line]
    assert "minilm" in without
    report = Report.model_validate_json((places.runs / "toy" / "pkd" / "run" / "report.json").read_bytes())
    student = next(row for row in report.rows if row.name == "student")
    (line,) = [line for line in text.splitlines() if line.startswith("| BERT6-PKD")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[0] == "BERT6-PKD (`pkd`)"
    assert student.compression is not None
    assert student.retained is not None
    assert cells[1] == f"{student.compression:.2f}×"
    assert cells[2].startswith(f"{student.retained.value * 100:.1f} [")
    assert cells[4:7] == ["1.6×", "98 %", "1.9×"]
    assert cells[9] == "5 (5)"  # 40 rows in batches of 8
    assert "40 training rows, 30 validation rows" in text
    assert "Teacher: encoder, fine-tuned here, " in text

    # Nothing is done again; what changed is, and only that.
    command.done.clear()
    assert fill() == 0
    assert command.done == []
    assert page.read_text(encoding="utf-8") == text
    write(places.configs / "pkd.yaml", pipeline({"name": "pkd", "layers": 1, "alpha": 0.5}))
    assert fill(only=("distilbert",)) == 0
    assert command.done == []
    assert "| BERT6-PKD (`pkd`) | not run since it changed |" in page.read_text(encoding="utf-8")

    text = page.read_text(encoding="utf-8")
    page.unlink()
    assert fill(page_only=True) == 0
    assert page.read_text(encoding="utf-8") == text
    assert command.done == []

    # The resolved pipeline is one that anybody can run.
    document = yaml.safe_load((places.runs / "toy" / "pkd" / "run.yaml").read_text(encoding="utf-8"))
    assert document["model"]["path"] == str(places.runs / "toy" / "teacher" / "model")
    assert document["data"]["train"] == str(places.data / "toy" / "train.jsonl")
    assert (
        CliRunner().invoke(app, ["run", str(places.runs / "toy" / "pkd" / "run.yaml"), "--dry-run"]).exit_code
        == 0
    )


def test_rows_that_fail_say_so_and_others_go_on(
    places: Places, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_tiny(places.models / "tuned")
    write(places.configs / "tasks" / "toy.yaml", {**TASK, "output": "tuned"})  # a teacher that is there
    write(places.configs / "pkd.yaml", pipeline({"name": "pkd", "layers": 7}))
    longer = pipeline({"name": "distilbert", "layers": [0]}, control_epochs=9.0)
    write(places.configs / "distilbert.yaml", longer)
    command, page = Commands(), tmp_path / "table1.md"
    assert table1.fill(places, page, command=command) == 4
    assert sorted(command.done) == ["run distilbert", "run pkd"]
    text = page.read_text(encoding="utf-8")
    assert "**This table is partial: 0 of 2 rows are done, 2 failed.**" in text
    assert "the control is no control: it trained for 45 steps, the student for 5" in text
    assert text.count("**Failed:**") == text.count("| failed |") == 2
    assert "failed" in capsys.readouterr().err

    # A control of another encoder is none either; its word table may differ.
    entries, _ = entries_of(places, tasks_of(places, rows=None, model=None), "distill")
    (entry,) = [entry for entry in entries if entry.method.name == "distilbert"]
    record = entry.run / "02-control" / "result.json"
    result = json.loads(record.read_text(encoding="utf-8"))
    result["model"]["parameters"] += 1
    record.write_text(json.dumps(result), encoding="utf-8")
    with pytest.raises(WorkError, match="it trained for 45 steps"):  # the next check
        table1.against_control(entry)
    result["model"]["encoder_parameters"] += 1
    record.write_text(json.dumps(result), encoding="utf-8")
    with pytest.raises(WorkError, match="the control is no control: its encoder has"):
        table1.against_control(entry)


def test_a_command_that_died_says_how(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert table1.failure_of(log, -9) == "was killed by SIGKILL"
    assert table1.failure_of(log, 4) == "ended with exit code 4"
    log.write_text("a note\nerror: no layer 7\nhint: fewer\n", encoding="utf-8")
    assert table1.failure_of(log, 2) == "no layer 7"


def test_the_plan_touches_nothing(places: Places, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(tmp_path.rglob("*"))
    command, page = Commands(), tmp_path / "table1.md"
    assert table1.fill(places, page, dry_run=True, command=command) == 0
    assert sorted(tmp_path.rglob("*")) == before
    said = capsys.readouterr().out
    assert "distilbert" in said
    assert "hours on one core" in said
    assert command.done == []
    with pytest.raises(ConfigError, match="--only pdk"):
        table1.fill(places, page, only=("pdk",))
    with pytest.raises(ConfigError, match="--task sst2"):
        table1.fill(places, page, task=("sst2",))


def test_a_config_of_one_task_goes_before_the_common_one(places: Places) -> None:
    write(places.configs / "pkd.toy.yaml", {"base": "pkd.yaml", "train": {"epochs": 2}})
    entries, _ = entries_of(places, tasks_of(places, rows=12, model=None), "distill")
    (entry,) = [entry for entry in entries if entry.method.name == "pkd"]
    assert entry.pipeline["train"]["epochs"] == 2
    assert entry.pipeline["data"]["max_train_rows"] == 12


def test_steps_are_those_of_all_stages() -> None:
    log = tuple({"step": float(step)} for step in (2, 4, 5, 3, 6, 6, 1))
    assert steps_of(StepResult.model_construct(training=log)) == 5 + 6 + 6 + 1


def test_gains_are_in_points() -> None:
    assert gain_text({"value": 0.012, "low": -0.001, "high": 0.025}, "accuracy") == "+1.2 [−0.1, +2.5]"
    assert gain_text(None, "accuracy") == "–"


def test_a_family_leaves_the_others_part_of_the_page() -> None:
    page = page_with("", [], [], "distill")
    both = page_with(page, [], [], "prune")
    assert both.count(END) == 2
    assert page_with(both, [], ["x"], "distill").count("not in it: x") == 1
    assert page_with(both, [], [], "distill") == both


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_shipped_configs_train_a_student_and_its_control(file: Path) -> None:
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    steps = {own["name"]: own for step in document["steps"] for own in step.values()}
    method, _, task = file.stem.partition(".")
    assert steps["student"]["method"]["name"] == method
    assert not task or (CONFIGS / "tasks" / f"{task}.yaml").is_file()
    assert steps["control"]["from"] == "input"
    kinds = {
        yaml.safe_load(task.read_text(encoding="utf-8"))["data"].get("task", DEFAULT_KIND)
        for task in (CONFIGS / "tasks").glob("*.yaml")
    }
    assert document["data"].get("task", DEFAULT_KIND) in kinds
    assert document["report"]["title"]


def test_steps_are_those_of_the_tasks_rows() -> None:
    settings = {
        "train": {"epochs": 30, "max_steps": 3300, "batch_size": 32},
        "steps": [{"distill": {"method": {"layers": [0, 2]}, "train": {"epochs": 1.1, "max_steps": 10}}}],
    }

    assert with_steps_for(5000, settings) == {
        "train": {"epochs": 30, "max_steps": 825, "batch_size": 32},
        "steps": [{"distill": {"method": {"layers": [0, 2]}, "train": {"epochs": 1.1, "max_steps": 2}}}],
    }
    assert with_steps_for(1, {"max_steps": 10}) == {"max_steps": 1}


def test_a_file_of_one_task_says_its_steps_itself(places: Places) -> None:
    document = pipeline({"name": "pkd", "layers": 1})
    document["train"] = {"max_steps": 1000}
    write(places.configs / "pkd.yaml", document)

    def steps() -> list[int]:
        entries, _ = entries_of(places, tasks_of(places, rows=None, model=None), "distill")
        return [entry.pipeline["train"]["max_steps"] for entry in entries if entry.method.name == "pkd"]

    assert steps() == [2]  # 40 rows of the 20,000 that the file is written for

    write(places.configs / "pkd.toy.yaml", document)
    assert steps() == [1000]


@pytest.mark.parametrize(("own", "control", "steps"), [(1, 1, 10), (2, 1, 20), (2, 2, 20)])
def test_a_control_whose_length_is_in_steps_takes_as_many_as_its_student(
    places: Places, tmp_path: Path, own: int, control: int, steps: int
) -> None:
    command = Commands()
    document: dict[str, Any] = pipeline({"name": "pkd", "layers": 1})
    document["steps"][0]["distill"]["train"] = {"epochs": 2, "average_runs": own}
    document["steps"][1]["distill"]["train"] = {"epochs": 99, "max_steps": 1, "average_runs": control}
    write(places.configs / "pkd.yaml", document)

    assert table1.fill(places, tmp_path / "table1.md", only=("pkd",), command=command) == 0

    assert command.done == ["finetune teacher", "run pkd", "run pkd"]
    run = places.runs / "toy" / "pkd" / "run"
    assert {file.name for file in run.parent.glob("run*.log")} == {"run.log", "run-only-student.log"}
    assert [steps_of(read_result(run / name)) for name in ("01-student", "02-control")] == [steps, steps]

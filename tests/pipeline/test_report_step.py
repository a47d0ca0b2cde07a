"""`report` on folders: whole runs beside each other and beside steps, and what got worse since an earlier run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compressbert.config.schema import DataConfig
from compressbert.errors import ConfigError, InputError
from compressbert.measure.quality import quality_of, save_predictions
from compressbert.pipeline.steps.outcome import PREDICTIONS
from compressbert.pipeline.steps.report import check_regression, report
from compressbert.report.write import write_report
from compressbert.results.record import Interval, MetricResult, StepResult
from compressbert.results.report import Report
from compressbert.results.store import RESULT_NAME
from compressbert.tasks.base import task_for
from tests.cli.support import invoke
from tests.report.examples import ENVIRONMENT, against_baseline, example, row

ROWS = 400
LABELS = np.random.default_rng(0).integers(0, 2, ROWS)
DATA = {"task": "sequence-classification", "validation": "rows.jsonl", "labels": ["no", "yes"]}


def logits(wrong: int) -> np.ndarray[Any, Any]:
    """Answers of which the first ``wrong`` are not the label."""
    right = np.where(np.arange(ROWS) < wrong, 1 - LABELS, LABELS)
    return np.eye(2, dtype=np.float32)[right] * 3


def quality(wrong: int) -> dict[str, MetricResult]:
    value = 1 - wrong / ROWS
    return {"accuracy": MetricResult(value=value, low=value - 0.03, high=value + 0.03, examples=ROWS)}


def predict(folder: Path, answers: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> None:
    """Leave predictions in a step folder."""
    task = task_for(DataConfig.model_validate(DATA), ["no", "yes"])
    save_predictions(folder / PREDICTIONS, quality_of(answers, labels, task))


def step(folder: Path, wrong: int, **more: Any) -> Path:
    """A step folder that predicted ``wrong`` rows wrongly."""
    folder.mkdir(parents=True)
    result = StepResult(
        step=folder.name, command="quantize", config={"data": DATA, "method": {"name": "dynamic_int8"}}, seed=0,
        quality=quality(wrong), primary_metric="accuracy", environment=ENVIRONMENT, seconds=1.0, files={}, **more,
    )  # fmt: skip
    (folder / RESULT_NAME).write_text(result.model_dump_json())
    predict(folder, logits(wrong), LABELS)
    return folder


def run(folder: Path, wrong: int, *, teacher: float = 0.95, speed: float = 4.0, **more: Any) -> Path:
    """A run folder whose last row predicted ``wrong`` rows wrongly."""
    last = step(folder / "02-int8", wrong)
    rows = (
        row("teacher", accuracy=teacher),
        row("int8", folder=str(last), **against_baseline(speed)).model_copy(update={"quality": quality(wrong)}),
    )  # fmt: skip
    changes: dict[str, Any] = {"title": folder.name, "baseline": "teacher", "rows": rows, "gates": ()} | more
    write_report(example(**changes, config={"data": DATA}), folder)
    return folder


def names(found: Report) -> list[str]:
    return [entry.name for entry in found.rows]


def test_runs_of_one_teacher_keep_what_they_measured_against_it(tmp_path: Path) -> None:
    folders = [run(tmp_path / "a", 20, speed=4.0), run(tmp_path / "b", 28, speed=6.0)]
    found = report(folders, output=tmp_path / "both")
    assert names(found) == ["teacher", "a", "b"]
    assert found.baseline == "teacher"
    assert [entry.speedup.value for entry in found.rows[1:] if entry.speedup] == [4.0, 6.0]
    assert [entry.parent for entry in found.rows] == [None, "teacher", "teacher"]
    assert found.notes == ()
    assert found.config == {}
    assert {file.name for file in (tmp_path / "both").iterdir()} == {
        "report.json",
        "report.md",
        "report.html",
    }


def test_runs_of_different_teachers_are_compared_on_their_predictions(tmp_path: Path) -> None:
    found = report([run(tmp_path / "a", 20), run(tmp_path / "b", 28, teacher=0.97)])
    assert names(found) == ["a", "b"]
    second = found.rows[1]
    assert second.speedup is None
    assert second.speedup_by_cell == {}
    assert second.flips == 8
    assert second.quality_drop is not None
    assert second.quality_drop.value == pytest.approx(8 / ROWS)
    assert found.rows[0].flips is None  # what it measured against its own teacher is not shown
    assert "timed in different runs" in found.notes[0]


def test_a_run_stands_beside_a_step_folder_and_another_may_be_the_baseline(tmp_path: Path) -> None:
    whole, alone = run(tmp_path / "whole", 20), step(tmp_path / "alone", 10)
    found = report([whole, alone])
    assert (names(found), found.rows[1].flips) == (["whole", "alone"], 10)
    turned = report([whole], baseline=alone)
    assert names(turned) == ["alone", "whole"]
    assert turned.rows[1].retained is not None
    assert turned.rows[1].retained.value == pytest.approx((ROWS - 20) / (ROWS - 10))


def test_the_settings_in_which_runs_differ_are_told(tmp_path: Path) -> None:
    folders = []
    for name, keep in (("a", 0.5), ("b", 0.75)):
        settings = {"seed": 0, "steps": [{"prune": {"method": {"name": "michel", "keep": keep}}}]}
        folders.append(run(tmp_path / name, 20))
        written = Report.model_validate_json((folders[-1] / "report.json").read_text())
        write_report(written.model_copy(update={"config": {"data": DATA, **settings}}), folders[-1])
    found = report(folders)
    assert found.config == {"settings that differ": {"steps.0.prune.method.keep": {"a": 0.5, "b": 0.75}}}


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    found = report([step(tmp_path / "a" / "int8", 5), step(tmp_path / "b" / "int8", 6)])
    assert names(found) == [str(tmp_path / "a" / "int8"), str(tmp_path / "b" / "int8")]


def test_regression_is_paired_where_both_runs_kept_their_predictions(tmp_path: Path) -> None:
    old, new = run(tmp_path / "old", 20), run(tmp_path / "new", 32)
    found = check_regression(new, old / "report.json", output=tmp_path / "check")
    change = next(change for change in found.changes if change.name == "accuracy")
    assert change.basis == f"paired on {ROWS} rows"
    assert change.change is not None
    assert change.change.value == pytest.approx(-12 / ROWS)
    assert change.verdict == "worse"  # three points on 400 rows, which two separate intervals could not tell
    assert {file.name for file in (tmp_path / "check").iterdir()} == {
        "regression.json", "regression.md", "regression.html",
    }  # fmt: skip
    moved = tmp_path / "downloaded.json"
    moved.write_text((old / "report.json").read_text())
    (old / "02-int8" / PREDICTIONS).unlink()
    alone = check_regression(new, moved)
    assert [c.basis for c in alone.changes if c.name == "accuracy"] == ["from the two intervals"]
    assert [c.verdict for c in alone.changes if c.name == "accuracy"] == ["cannot-tell"]


def test_predictions_of_another_run_in_the_same_folder_are_not_taken(tmp_path: Path) -> None:
    """The step ran again since the old report: its predictions are no longer those the report is about."""
    old = run(tmp_path / "old", 20)
    kept = tmp_path / "kept.json"
    kept.write_text((old / "report.json").read_text())
    result = json.loads((old / "02-int8" / RESULT_NAME).read_text())
    result["quality"]["accuracy"]["value"] = 0.5
    (old / "02-int8" / RESULT_NAME).write_text(json.dumps(result))
    found = check_regression(run(tmp_path / "new", 32), kept)
    assert [c.basis for c in found.changes if c.name == "accuracy"] == ["from the two intervals"]


def test_what_is_no_report_is_said(tmp_path: Path) -> None:
    alone = step(tmp_path / "alone", 3)
    whole = run(tmp_path / "whole", 3)
    with pytest.raises(InputError, match="is a step folder"):
        check_regression(alone, whole)
    broken = tmp_path / "broken.json"
    broken.write_text('{"title": 1}')
    with pytest.raises(InputError, match=r"broken\.json is not a report: \w+"):
        check_regression(whole, broken)
    other = step(tmp_path / "other", 3)
    predict(other, logits(3)[:-1], LABELS[:-1])
    with pytest.raises(InputError, match="different rows"):
        report([alone, other])
    with pytest.raises(ConfigError, match="no folder"):
        report([])


def test_exit_code_and_json_of_the_command(tmp_path: Path) -> None:
    old, new = run(tmp_path / "old", 20), run(tmp_path / "new", 60)
    worse = invoke("report", "--baseline", old / "report.json", new)
    assert worse.exit_code == 1
    assert "✗ worse" in worse.stdout
    document = json.loads(invoke("report", "--baseline", old, new, "--json").stdout)
    assert document["schema_version"] == 1
    assert [c["name"] for c in document["changes"] if c["verdict"] == "worse"] == ["accuracy", "retained"]
    assert invoke("report", "--baseline", old, old).exit_code == 0
    assert invoke("report", "--baseline", old, new, "--tolerance", "quality=0.5").exit_code == 0
    for wrong in ("quality", "quality=x", "quality=-1", "flavour=1", "quality=nan"):
        refused = invoke("report", "--baseline", old, new, "--tolerance", wrong)
        assert refused.exit_code == 2, wrong
        assert "--tolerance" in refused.stderr
    assert invoke("report", "--baseline", old, new, old).exit_code == 2
    assert invoke("report", new, "--tolerance", "quality=0.5").exit_code == 2


def test_a_speed_up_that_fell_is_worse(tmp_path: Path) -> None:
    found = check_regression(run(tmp_path / "new", 20, speed=3.0), run(tmp_path / "old", 20, speed=4.0))
    fallen = [change for change in found.changes if change.kind == "speed"]
    assert [change.verdict for change in fallen] == ["worse"] * 3
    assert isinstance(fallen[0].change, Interval)
    assert fallen[0].change.value == pytest.approx(-0.25)

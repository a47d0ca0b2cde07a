"""`report`: show a run folder's report again, or put step folders side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compressbert.config.schema import DataConfig
from compressbert.errors import ConfigError, InputError
from compressbert.measure.comparison import compare
from compressbert.measure.quality import load_predictions, quality_of
from compressbert.pipeline.steps.outcome import PREDICTIONS
from compressbert.report.rows import RowInput, build
from compressbert.report.write import write_report
from compressbert.results.environment import environment
from compressbert.results.measured import Comparison
from compressbert.results.record import Report, StepResult
from compressbert.results.store import RESULT_NAME, read_result
from compressbert.tasks.base import task_for

REPORT = "report.json"


def report(folders: Sequence[Path], *, baseline: Path | None = None, output: Path | None = None) -> Report:
    """Return the report of one pipeline run, or of several step folders compared with the first (or ``baseline``).

    Args:
        folders: One run folder with a report.json, or step folders with a result.json.
        baseline: The step folder that the others are compared with; default: the first.
        output: Folder for report.json, report.md and report.html; default: a run folder's own are rewritten.

    Raises:
        ConfigError: No folder, or a run folder together with others.
        InputError: A folder holds neither a report nor a result.
    """
    if not folders:
        raise ConfigError("no folder was given", hint="compressbert report RUN_FOLDER")
    runs = [folder for folder in folders if (folder / REPORT).is_file()]
    if runs and len(folders) > 1:
        raise ConfigError(
            f"{runs[0]} is a whole run; it cannot be put beside other folders",
            hint="Name the step folders to compare, such as RUN/01-finetune RUN/05-export.",
        )
    if runs:
        found = Report.model_validate_json((runs[0] / REPORT).read_text(encoding="utf-8"))
        write_report(found, output or runs[0])
        return found
    found = _compare([*([baseline] if baseline else []), *(f for f in folders if f != baseline)])
    if output is not None:
        write_report(found, output)
    return found


def _compare(folders: Sequence[Path]) -> Report:
    results = [_result(folder) for folder in folders]
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    inputs = [
        RowInput(
            name=name,
            step=result.command,
            method=(result.config.get("method") or {}).get("name"),
            folder=str(folder),
            result=result,
            comparison=_comparison(folders[0], folder, result) if index else None,
        )
        for index, (name, folder, result) in enumerate(zip(names, folders, results, strict=True))
    ]
    return build("Comparison", names[0], inputs, environment=environment())


def _result(folder: Path) -> StepResult:
    if not folder.is_dir():
        raise InputError(f"no folder at {folder}", hint="Give a run folder or step folders.")
    if not (folder / RESULT_NAME).is_file():
        raise InputError(
            f"{folder} holds neither {REPORT} nor {RESULT_NAME}, so no finished run or step",
            hint="Give the folder that `compressbert run` wrote, or one of its step folders.",
        )
    return read_result(folder)


def _comparison(baseline: Path, candidate: Path, result: StepResult) -> Comparison | None:
    """Compare two folders' predictions if both have them and they are of the same rows."""
    files = [folder / PREDICTIONS for folder in (baseline, candidate)]
    data = result.config.get("data")
    if data is None or not all(file.is_file() for file in files):
        return None
    (before, labels), (after, other) = (load_predictions(file) for file in files)
    if len(labels) != len(other) or (labels != other).any():
        raise InputError(
            f"{baseline} and {candidate} were evaluated on different rows",
            hint="Evaluate both on the same data before comparing them.",
        )
    task = task_for(DataConfig.model_validate(data), [str(index) for index in range(before.shape[1])])
    return compare(quality_of(before, labels, task), quality_of(after, labels, task), labels, task)

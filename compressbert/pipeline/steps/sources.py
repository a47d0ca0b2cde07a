"""What a folder brings to a comparison: a whole run its outcome, a step folder its result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydantic import ValidationError

from compressbert.config.schema import DataConfig
from compressbert.errors import InputError
from compressbert.measure.comparison import compare
from compressbert.measure.quality import load_predictions, stored_width
from compressbert.methods.registry import list_methods
from compressbert.pipeline.steps.inputs import output_names
from compressbert.pipeline.steps.outcome import PREDICTIONS
from compressbert.report import figures
from compressbert.report.rows import RowInput, row_of
from compressbert.results.record import Comparison, StepResult
from compressbert.results.report import Report, ReportRow
from compressbert.results.store import RESULT_NAME, read_result
from compressbert.tasks.base import Task, task_for

REPORT = "report.json"


@dataclass(frozen=True)
class Source:
    """One row to compare. ``report`` is the run it is the last row of; ``predictions`` the file they lie in, if any."""

    path: Path
    row: ReportRow
    report: Report | None
    predictions: Path | None
    data: DataConfig | None
    settings: Mapping[str, Any]

    @property
    def baseline(self) -> ReportRow | None:
        """The row that its run compared with."""
        if self.report is None:
            return None
        return next((row for row in self.report.rows if row.name == self.report.baseline), None)


def read_report(path: Path) -> Report:
    """The report in a run folder, or in a file.

    Raises:
        InputError: It is missing or no report.
    """
    file = path / REPORT if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"no report at {file}", hint="`compressbert run` writes one into its folder.")
    try:
        return Report.model_validate_json(file.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(f"{file} is not a report: {where}: {first['msg']}") from error


def is_report(path: Path) -> bool:
    """Whether ``path`` is a run folder with a report, or a report's file."""
    return (path / REPORT).is_file() or path.is_file()


def read_source(path: Path) -> Source:
    """What ``path`` brings: a run folder or report its last row, a step folder its own.

    Raises:
        InputError: It holds neither a report nor a result.
    """
    return _run(path) if is_report(path) else _step(path)


def _run(path: Path) -> Source:
    report = read_report(path)
    row = report.rows[-1]
    home = path if path.is_dir() else path.parent
    folder = _folder_of(row, home)
    data = report.config.get("data")
    return Source(
        path, row, report,
        predictions=folder / PREDICTIONS if folder else None,
        data=DataConfig.model_validate(data) if data and folder else None,
        settings=report.config,
    )  # fmt: skip


def _folder_of(row: ReportRow, home: Path) -> Path | None:
    """The folder of the row's predictions, beside its report or where the row says; None unless it scored the same."""
    if row.folder is None:
        return None
    for folder in (home / Path(row.folder).name, Path(row.folder)):
        if (folder / PREDICTIONS).is_file() and (folder / RESULT_NAME).is_file():
            metric = row.primary_metric or ""
            if read_result(folder).quality.get(metric) == row.quality.get(metric):
                return folder
    return None


def _step(folder: Path) -> Source:
    if not folder.is_dir():
        raise InputError(f"no folder at {folder}", hint="Give a run folder or step folders.")
    if not (folder / RESULT_NAME).is_file():
        raise InputError(
            f"{folder} holds neither {REPORT} nor {RESULT_NAME}, so no finished run or step",
            hint="Give the folder that `compressbert run` wrote, or one of its step folders.",
        )
    result = read_result(folder)
    method = (result.config.get("method") or {}).get("name")
    survey = next((info.survey for info in list_methods() if info.name == method), None)
    row = row_of(
        RowInput(folder.name, result.command, result, method=method, folder=str(folder), survey=survey)
    )
    file, data = folder / PREDICTIONS, _data_of(result)
    return Source(folder, row, None, file if file.is_file() else None, data, result.config)


def _data_of(result: StepResult) -> DataConfig | None:
    data = result.config.get("data")
    return DataConfig.model_validate(data) if data else None


def compare_sources(before: Source, after: Source) -> Comparison | None:
    """Compare what two predicted, if both files of predictions are there.

    Raises:
        InputError: They predicted different rows.
    """
    data = after.data or before.data
    if before.predictions is None or after.predictions is None or data is None:
        return None
    task = _task(data, before.predictions)
    first, second = (load_predictions(file, task) for file in (before.predictions, after.predictions))
    if not _same(first.labels, second.labels):
        raise InputError(
            f"{before.path} and {after.path} were evaluated on different rows",
            hint="Evaluate both on the same data before comparing them.",
        )
    return compare(first, second, first.labels, task)


def _same(labels: NDArray[Any], others: NDArray[Any]) -> bool:
    return labels.shape == others.shape and bool((labels == others).all())


def _task(data: DataConfig, predictions: Path) -> Task:
    """The task of a file of predictions, with the names of the model beside it or placeholders."""
    names = output_names(predictions.parent)
    return task_for(data, names or [str(index) for index in range(stored_width(predictions))])


def named(sources: Sequence[Source]) -> list[str]:
    """Names that tell the sources apart: their folders', or their whole paths."""
    names = [
        source.path.name if source.path.name != REPORT else source.path.parent.name for source in sources
    ]
    return names if len(set(names)) == len(names) else [str(source.path) for source in sources]


def shared_baseline(sources: Sequence[Source]) -> ReportRow | None:
    """The baseline all sources were compared with, if they are runs and it was one and the same model."""
    bases = [source.baseline for source in sources]
    first = bases[0]
    if first is None or figures.primary(first) is None:
        return None
    same = all(
        base is not None
        and base.bytes_on_disk == first.bytes_on_disk
        and figures.primary(base) == figures.primary(first)
        for base in bases
    )
    return first if same else None


def differing_settings(sources: Sequence[Source], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The settings in which the sources differ: dotted key, then each source's value (None: it has none)."""
    flat = [dict(_flattened(source.settings)) for source in sources]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    found = {}
    for key in keys:
        values = [settings.get(key) for settings in flat]
        if any(value != values[0] for value in values[1:]):
            found[key] = dict(zip(names, values, strict=True))
    return found


def _flattened(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested settings by dotted key."""
    parts = settings.items() if isinstance(settings, Mapping) else enumerate(settings)
    for key, value in parts:
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping | list | tuple) and value:
            yield from _flattened(value, name)
        else:
            yield name, value

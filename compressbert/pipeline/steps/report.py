"""`report`: show a run's report again, compare runs and steps, or say what got worse since an earlier report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compressbert.config.schema import Gates
from compressbert.errors import ConfigError, InputError
from compressbert.pipeline.steps.sources import (
    Source,
    compare_sources,
    differing_settings,
    is_report,
    named,
    read_report,
    read_source,
    shared_baseline,
)
from compressbert.pipeline.verdicts import judged
from compressbert.report.regression import Paired, regression
from compressbert.report.regression_views import write_regression
from compressbert.report.rows import against
from compressbert.report.write import write_report
from compressbert.results.environment import environment, fingerprint
from compressbert.results.record import Interval
from compressbert.results.regression import Kind, Regression
from compressbert.results.report import Report, ReportRow

_APART = (
    "The rows were timed in different runs, so they have no speed-ups: "
    "`compressbert benchmark` times folders together."
)
_MACHINES = "The runs were timed on different machines: their speed-ups need not agree on one."


def report(
    folders: Sequence[Path],
    *,
    baseline: Path | None = None,
    output: Path | None = None,
    gates: Gates | None = None,
) -> Report:
    """Return the report of one pipeline run, or a comparison of runs and step folders.

    Of a run that is compared its last row counts. Runs that share their baseline keep what they measured against it;
    otherwise all are compared with the first (or ``baseline``), on the predictions they left.

    Args:
        folders: One run folder with a report.json, or several run or step folders.
        baseline: The step folder that the others are compared with; default: the first.
        output: Folder for report.json, report.md and report.html; default: a run folder's own are rewritten.
        gates: Judge the last row by these limits, in place of the run's own; its own report then stays as it is.

    Raises:
        ConfigError: No folder.
        InputError: A folder holds neither a report nor a result, or two were evaluated on different rows.
    """
    if not folders:
        raise ConfigError("no folder was given", hint="compressbert report RUN_FOLDER")
    if len(folders) == 1 and baseline is None and is_report(folders[0]):
        found = read_report(folders[0])
        if gates is not None:
            return _judged(found, gates, output)
        own = folders[0] if folders[0].is_dir() else folders[0].parent
        write_report(found, output or own)
        return found
    found = _compare([*([baseline] if baseline else []), *(f for f in folders if f != baseline)])
    if gates is not None:
        return _judged(found, gates, output)
    if output is not None:
        write_report(found, output)
    return found


def _judged(measured: Report, gates: Gates, output: Path | None) -> Report:
    settings = {**measured.config, "gates": gates.model_dump(mode="json")}
    found = judged(gates, measured).model_copy(update={"config": settings})
    if output is not None:
        write_report(found, output)
    return found


def check_regression(
    new: Path, old: Path, *, tolerances: Mapping[Kind, float] | None = None, output: Path | None = None
) -> Regression:
    """Say what of a run's last row got worse since an earlier report.

    Where both runs still have their predictions, and of the same rows, quality is compared row by row.

    Args:
        new: Run folder or report.json to judge.
        old: Run folder or report.json to hold it against.
        tolerances: What may change without being a change; see `report.regression.TOLERANCES`.
        output: Folder for regression.json, regression.md and regression.html.

    Raises:
        InputError: A report is missing or is none.
    """
    before, after = read_source(old), read_source(new)
    if before.report is None or after.report is None:
        step = old if before.report is None else new
        raise InputError(f"{step} is a step folder; a regression check needs two reports")
    found = regression(before.report, after.report, tolerances=tolerances, paired=_paired(before, after))
    if output is not None:
        write_regression(found, output)
    return found


def _paired(before: Source, after: Source) -> Paired | None:
    try:
        found = compare_sources(before, after)
    except InputError:  # other rows: the two intervals still tell something
        return None
    metric = after.row.primary_metric
    if found is None or found.metric != metric or metric != before.row.primary_metric:
        return None
    quality = after.row.quality[metric]
    sign = -1 if quality.direction == "higher" else 1
    bounds = sorted((sign * found.drop.low, sign * found.drop.high))
    change = Interval(value=sign * found.drop.value, low=bounds[0], high=bounds[1])
    return Paired(change, quality.examples)


def _compare(paths: Sequence[Path]) -> Report:
    sources = [read_source(path) for path in paths]
    names = named(sources)
    base = shared_baseline(sources)
    notes: list[str] = []
    if base is not None:
        first = base.name if base.name not in names else f"{base.name} (baseline)"
        rows = [base.model_copy(update={"name": first, "parent": None})]
        rows += [_renamed(source, name, first) for source, name in zip(sources, names, strict=True)]
        machines = {fingerprint(source.report.environment) for source in sources if source.report}
        notes += [_MACHINES] if len(machines) > 1 else []
    else:
        rows = _against_first(sources, names)
        notes += [_APART] if any(row.latency for row in rows) else []
    made = next((source.report.environment for source in sources if source.report), environment())
    differing = differing_settings(sources, names)
    return Report(
        title="Comparison",
        baseline=rows[0].name,
        rows=tuple(rows),
        notes=tuple(notes),
        environment=made,
        config={"settings that differ": differing} if differing else {},
    )


def _renamed(source: Source, name: str, baseline: str) -> ReportRow:
    return source.row.model_copy(update={"name": name, "step": source.row.name, "parent": baseline})


def _against_first(sources: Sequence[Source], names: Sequence[str]) -> list[ReportRow]:
    """Rows compared with the first of them on predictions and size; what they measured against others is dropped."""
    alone: dict[str, Any] = {"speedup": None, "speedup_by_cell": {}, "seeds": None}
    rows = []
    for index, (source, name) in enumerate(zip(sources, names, strict=True)):
        comparison = compare_sources(sources[0], source) if index else None
        row = source.row.model_copy(update={**alone, "name": name, "parent": names[0] if index else None})
        rows.append(against(row, sources[0].row, comparison))
    return rows

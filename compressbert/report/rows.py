"""A report's rows: what each step left, joined with its comparison and its timings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from compressbert.errors import ConfigError
from compressbert.results.measured import CandidateTimings, Comparison
from compressbert.results.record import Environment, Interval, StepResult
from compressbert.results.report import Report, ReportGate, ReportRow

ENCODER_COMPONENTS = ("attention", "ffn")


@dataclass(frozen=True)
class RowInput:
    """What is known of one step. ``comparison`` and ``timings`` are None where they were not measured.

    ``result.quality`` is what the row shows; ``survey`` holds the survey's own figures for the method.
    """

    name: str
    step: str
    result: StepResult
    method: str | None = None
    folder: str | None = None
    comparison: Comparison | None = None
    timings: CandidateTimings | None = None
    survey: dict[str, Any] | None = None
    parent: str | None = None  # name of the row it was made from


def build(
    title: str,
    baseline: str,
    inputs: Sequence[RowInput],
    *,
    environment: Environment,
    gates: tuple[ReportGate, ...] = (),
    config: dict[str, Any] | None = None,
    notes: tuple[str, ...] = (),
) -> Report:
    """Assemble a report.

    Args:
        title: Heading.
        baseline: Name of the row that the others are compared with.
        inputs: One per row, in the order of the report.
        environment: Where it was measured.
        gates: Verdicts; `pipeline/gates.py:judge` gives them for a row.
        config: The resolved settings, shown at the end.
        notes: What a reader of the figures must know.

    Raises:
        ConfigError: No row is named ``baseline``.
    """
    names = [row.name for row in inputs]
    if baseline not in names:
        raise ConfigError(
            f"The report's baseline is {baseline!r}, but the rows are: {', '.join(names) or 'none'}.",
            hint="Set report.baseline to one of them.",
        )
    rows = [row_of(row) for row in inputs]
    return Report(
        title=title,
        baseline=baseline,
        rows=tuple(_sized(row, rows[names.index(baseline)]) for row in rows),
        gates=gates,
        notes=notes,
        conditions=next((row.timings.conditions for row in inputs if row.timings), None),
        environment=environment,
        config=config or {},
    )


def row_of(row: RowInput) -> ReportRow:
    """What is known of one step, as a row; its size is not compared with anything yet."""
    result, facts, timings = row.result, row.result.model, row.timings
    return ReportRow(
        name=row.name,
        step=row.step,
        method=row.method,
        folder=row.folder,
        quality={name: metric for name, metric in result.quality.items() if _finite(metric)},
        primary_metric=result.primary_metric,
        seeds=result.seeds,
        training=result.training,
        parent=row.parent,
        speedup=timings.speedup if timings else None,
        latency=timings.cells if timings else result.latency,
        speedup_by_cell=timings.speedup_by_cell if timings else {},
        memory=timings.memory if timings else result.memory,
        cold_start=timings.cold_start if timings else None,
        tokenizer_ms=timings.tokenizer_ms if timings else None,
        parameters=facts.parameters if facts else None,
        nonzero_parameters=facts.nonzero_parameters if facts else None,
        encoder_parameters=facts.encoder_parameters if facts else None,
        bytes_on_disk=facts.bytes_on_disk if facts else None,
        bytes_by_component=facts.bytes_by_component if facts else {},
        heads_per_layer=facts.heads_per_layer if facts else (),
        ffn_per_layer=facts.ffn_per_layer if facts else (),
        macs_per_token=facts.macs_per_token if facts else None,
        portability=result.portability,
        survey=row.survey,
        seconds=result.seconds,
        **_compared(row.comparison),
    )


def against(row: ReportRow, base: ReportRow, comparison: Comparison | None) -> ReportRow:
    """``row`` with its size and quality compared with those of ``base``; its speed-up stays."""
    return _sized(row.model_copy(update=_compared(comparison)), base)


def _compared(comparison: Comparison | None) -> dict[str, Any]:
    """The fields of a row that a comparison of predictions fills."""
    found = comparison
    return {
        "retained": _finite(found.retained) if found else None,
        "quality_drop": _finite(found.drop) if found else None,
        "flips": len(found.flips) if found and found.flips is not None else None,
        "mcnemar_p": found.mcnemar_p if found else None,
        "noninferiority": found.noninferiority if found else None,
        "slices": found.slices if found else (),
        "worst_flips": found.worst_flips if found else (),
    }


def _sized(row: ReportRow, base: ReportRow) -> ReportRow:
    sizes = {
        "compression": _ratio(base.bytes_on_disk, row.bytes_on_disk),
        "compression_encoder": _ratio(_encoder_bytes(base), _encoder_bytes(row)),
    }
    return row.model_copy(update=sizes)


def _finite(found: Interval | None) -> Interval | None:
    """The interval, or None if it holds a figure that is not a number: a report states what was measured."""
    if found is None or not all(map(math.isfinite, (found.value, found.low, found.high))):
        return None
    return found


def _encoder_bytes(row: ReportRow) -> int:
    return sum(row.bytes_by_component.get(component, 0) for component in ENCODER_COMPONENTS)


def _ratio(before: int | None, after: int | None) -> float | None:
    return before / after if before and after else None


def components_of(rows: Iterable[ReportRow]) -> tuple[str, ...]:
    """Names of all components that some row has bytes of, in the order they first appear."""
    return tuple(dict.fromkeys(name for row in rows for name, size in row.bytes_by_component.items() if size))

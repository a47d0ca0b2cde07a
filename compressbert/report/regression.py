"""What got worse between two reports: the last row of each, figure by figure, judged on the interval of the change.

A change is *unchanged* if its whole interval lies within the tolerance, *worse* or *better* if its interval excludes
no change and its value exceeds the tolerance, else *cannot-tell*.

Where only the two reports are at hand, the interval of a difference is recovered from the two intervals by the method
of variance estimates (Zou and Donner 2008, "Construction of confidence limits about effect measures"): its lower
bound lies sqrt((new - new_low)^2 + (old_high - old)^2) below the difference. Ratios are treated so on logarithms. It
takes the two as independent, which is cautious where both were scored on the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from compressbert.report import figures
from compressbert.results.environment import fingerprint
from compressbert.results.measured import DATA_CELL
from compressbert.results.record import Interval
from compressbert.results.regression import Change, Kind, Regression, Verdict
from compressbert.results.report import Report, ReportRow

TOLERANCES: Mapping[Kind, float] = {"quality": 0.01, "speed": 0.05, "size": 0.01, "memory": 0.1}
_TWO = "from the two intervals"


@dataclass(frozen=True)
class Paired:
    """The difference of the primary metric, new minus old, measured on the same rows."""

    change: Interval
    rows: int


def regression(
    old: Report, new: Report, *, tolerances: Mapping[Kind, float] | None = None, paired: Paired | None = None
) -> Regression:
    """Compare the last rows of two reports.

    Args:
        old: The report to hold against.
        new: The report to judge.
        tolerances: What may change: quality in units of the metric, the others as a fraction. Defaults: `TOLERANCES`.
        paired: The sharper answer for the primary metric, where the predictions of both are at hand.
    """
    allowed = {**TOLERANCES, **(tolerances or {})}
    before, after = old.rows[-1], new.rows[-1]
    found = [
        *_quality(old, new, paired),
        *_speed(old, new),
        _size("bytes on disk", before.bytes_on_disk, after.bytes_on_disk),
        _memory(old, new),
    ]
    changes = [_judged(figure, allowed[figure.kind]) for figure in found if figure.old or figure.new]
    return Regression(
        old=old.title, new=new.title, old_row=before.name, new_row=after.name,
        changes=tuple(changes), notes=_notes(old, new),
    )  # fmt: skip


def difference(old: Interval, new: Interval) -> Interval:
    """New minus old with its interval, recovered from the two."""
    value = new.value - old.value
    below = math.hypot(max(new.value - new.low, 0.0), max(old.high - old.value, 0.0))
    above = math.hypot(max(new.high - new.value, 0.0), max(old.value - old.low, 0.0))
    return Interval(value=value, low=value - below, high=value + above)


def relative(old: Interval, new: Interval) -> Interval:
    """New / old - 1 with its interval; all figures must be positive."""
    logs = difference(*(
        Interval(value=math.log(i.value), low=math.log(i.low), high=math.log(i.high)) for i in (old, new)
    ))  # fmt: skip
    return Interval(value=math.expm1(logs.value), low=math.expm1(logs.low), high=math.expm1(logs.high))


def judge(change: Interval, tolerance: float, *, higher_is_better: bool) -> Verdict:
    """The verdict on a change."""
    if -tolerance <= change.low and change.high <= tolerance:
        return "unchanged"
    if change.low > 0 and change.value > tolerance:
        return "better" if higher_is_better else "worse"
    if change.high < 0 and change.value < -tolerance:
        return "worse" if higher_is_better else "better"
    return "cannot-tell"


@dataclass(frozen=True)
class _Figure:
    """One figure, then and now; ``change`` is None where the two cannot be held against each other."""

    name: str
    kind: Kind
    old: Interval | None
    new: Interval | None
    change: Interval | None
    basis: str
    better: Literal["higher", "lower"] = "higher"


def _judged(figure: _Figure, tolerance: float) -> Change:
    basis, verdict = figure.basis, "cannot-tell"
    if figure.old is None or figure.new is None:
        basis = "not measured then" if figure.old is None else "not measured now"
    elif figure.change is not None:
        verdict = judge(figure.change, tolerance, higher_is_better=figure.better == "higher")
    return Change(
        name=figure.name, kind=figure.kind, better=figure.better, old=_bare(figure.old), new=_bare(figure.new),
        change=figure.change, tolerance=tolerance, verdict=verdict, basis=basis,
    )  # fmt: skip


def _quality(old: Report, new: Report, paired: Paired | None) -> list[_Figure]:
    """The primary metric, and what it is of the baseline's."""
    before, after = old.rows[-1], new.rows[-1]
    first, second = figures.primary(before), figures.primary(after)
    measured = first or second
    if measured is None:
        return []
    change, basis = None, ""
    if before.primary_metric != after.primary_metric and first and second:
        basis = f"{before.primary_metric} then, {after.primary_metric} now"
    elif first and second and first.examples != second.examples:
        basis = f"{first.examples:,} rows then, {second.examples:,} now"
    elif first and second:
        change = paired.change if paired else difference(first, second)
        basis = f"paired on {paired.rows:,} rows" if paired else _TWO
    name = before.primary_metric or after.primary_metric or "quality"
    score = _Figure(name, "quality", first, second, change, basis, measured.direction)
    return [score, _retained(old, new, score, paired)]


def _retained(old: Report, new: Report, score: _Figure, paired: Paired | None) -> _Figure:
    before, after = old.rows[-1].retained, new.rows[-1].retained
    base = _score_of_baseline(old)
    change, basis = None, score.basis
    if before and after and score.change is not None:
        if base != _score_of_baseline(new):
            basis = "the baselines score differently"
        elif paired and base and score.better == "higher" and base > 0:
            bounds = (paired.change.value, paired.change.low, paired.change.high)
            value, low, high = (bound / base for bound in bounds)
            change, basis = (
                Interval(value=value, low=low, high=high),
                f"{score.basis}, baseline fixed",
            )
        else:
            change, basis = difference(before, after), _TWO
    return _Figure("retained", "quality", before, after, change, basis)


def _speed(old: Report, new: Report) -> list[_Figure]:
    """The speed-up over the baseline in every cell that either report timed."""
    before, after = old.rows[-1].speedup_by_cell, new.rows[-1].speedup_by_cell
    obstacle = _machines(old, new) or _baselines(old, new)
    found = []
    for cell in sorted(dict.fromkeys([*before, *after]), key=lambda name: name != DATA_CELL):
        then, now = before.get(cell), after.get(cell)
        comparable = then and now and not obstacle and min(then.low, now.low) > 0
        change = relative(then, now) if then and now and comparable else None
        found.append(
            _Figure(f"speed-up, {figures.cell_label(cell)}", "speed", then, now, change, obstacle or _TWO)
        )
    return found


def _size(name: str, before: int | None, after: int | None) -> _Figure:
    then, now = _exact(before), _exact(after)
    change = relative(then, now) if then and now and before and after else None
    return _Figure(name, "size", then, now, change, "as counted", "lower")


def _memory(old: Report, new: Report) -> _Figure:
    before, after = (report.rows[-1].memory for report in (old, new))
    then, now = (_exact(found.peak_rss_mb if found else None) for found in (before, after))
    obstacle = _machines(old, new)
    change = relative(then, now) if then and now and not obstacle and min(then.value, now.value) > 0 else None
    return _Figure("peak memory, MB", "memory", then, now, change, obstacle or "one reading each", "lower")


def _machines(old: Report, new: Report) -> str:
    there, here = (fingerprint(report.environment) for report in (old, new))
    return "" if there == here else "measured on different machines"


def _baselines(old: Report, new: Report) -> str:
    bases = (_baseline(old), _baseline(new))
    shapes = {(base.parameters, base.macs_per_token) if base else None for base in bases}
    return "" if len(shapes) == 1 else "the baselines differ in shape"


def _baseline(report: Report) -> ReportRow | None:
    return next((row for row in report.rows if row.name == report.baseline), None)


def _score_of_baseline(report: Report) -> float | None:
    base = _baseline(report)
    quality = figures.primary(base) if base else None
    return quality.value if quality else None


def _exact(value: float | None) -> Interval | None:
    return None if value is None else Interval(value=value, low=value, high=value)


def _bare(found: Interval | None) -> Interval | None:
    """The interval alone, without what a metric says beside it."""
    return Interval(value=found.value, low=found.low, high=found.high) if found else None


def _notes(old: Report, new: Report) -> tuple[str, ...]:
    notes = []
    for name, report in (("old", old), ("new", new)):
        if report.conditions is not None and report.conditions.busy:
            notes.append(
                f"The {name} report was timed on a busy machine: its ratios favour the smaller model."
            )
    if old.rows[-1].name != new.rows[-1].name:
        notes.append(f"The last row was {old.rows[-1].name} and is {new.rows[-1].name}.")
    return tuple(notes)

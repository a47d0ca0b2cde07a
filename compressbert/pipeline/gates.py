"""Gates: limits a report's last row must keep, judged on the bound of an interval and not on its middle.

A whole 95 % interval inside the limit passes, a whole interval outside fails, anything else is cannot-tell, with how
much more data would tell (`enough.py`). What is counted exactly (bytes, flips) has no interval. What was asked for
and not measured, or is not a number, fails.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from compressbert.config.problems import suggestion
from compressbert.config.schema import Gates
from compressbert.pipeline.enough import at_once, need, need_text
from compressbert.report.figures import headline_latency
from compressbert.results.record import Conditions, Interval, Slice
from compressbert.results.report import Need, Report, ReportGate, ReportRow

Side = Literal["at most", "at least"]
Verdict = Literal["pass", "fail", "cannot-tell"]
OnUncertain = Literal["fail", "warn", "measure-more"]


@dataclass(frozen=True)
class Sample:
    """What an interval rests on: how many ``rows`` or ``rounds``; None where the count is not known."""

    what: Literal["rows", "rounds"]
    count: int | None


def judge(
    gates: Gates, row: ReportRow, conditions: Conditions | None = None, machine: str | None = None
) -> tuple[ReportGate, ...]:
    """Verdicts on ``row`` for every gate that is set.

    Args:
        gates: The limits.
        row: The candidate, with its intervals against a baseline that was measured in the same run.
        conditions: Of the timing run.
        machine: Fingerprint of the machine that the latency was measured on.
    """
    quality = row.quality.get(row.primary_metric or "")
    rows = Sample("rows", quality.examples if quality is not None else None)
    rounds = Sample("rounds", conditions.rounds if conditions is not None else None)
    verdicts: list[ReportGate | None] = [
        _interval("max_quality_drop", gates.max_quality_drop, "at most", row.quality_drop, rows),
        _interval("min_retained", gates.min_retained, "at least", row.retained, rows),
        _interval("min_speedup", gates.min_speedup, "at least", row.speedup, rounds),
        _p95(gates, row, conditions, machine),
        _count("max_megabytes", gates.max_megabytes, row.bytes_on_disk, unit=1e6),
        _count("max_memory_mb", gates.max_memory_mb, row.memory.peak_rss_mb if row.memory else None),
        _count("max_flips", gates.max_flips, row.flips),
        _any_slice(gates.max_slice_drop, row.slices),
        *(
            _named_slice(name, limits.max_quality_drop, row.slices)
            for name, limits in sorted(gates.slices.items())
        ),
    ]
    return tuple(gate for gate in verdicts if gate is not None)


def exit_code(verdicts: Iterable[ReportGate], on_uncertain: OnUncertain) -> int:
    """1 if a gate failed, or could not tell and ``on_uncertain`` is fail; else 0."""
    refused = {"fail", "cannot-tell"} if on_uncertain == "fail" else {"fail"}
    return int(any(gate.verdict in refused for gate in verdicts))


def own_policy(report: Report) -> OnUncertain:
    """What the run of ``report`` was told to do with a gate that cannot tell."""
    found = (report.config.get("gates") or {}).get("on_uncertain")
    return next((policy for policy in get_args(OnUncertain) if policy == found), "warn")


def _interval(
    name: str, limit: float | None, side: Side, found: Interval | None, sample: Sample
) -> ReportGate | None:
    return None if limit is None else _on_bound(name, limit, side, found, sample)


def _on_bound(name: str, limit: float, side: Side, found: Interval | None, sample: Sample) -> ReportGate:
    """Pass if the whole interval keeps the limit, fail if none of it does, else cannot-tell."""
    if found is None:
        return _failed(name, limit, "not measured")
    value, low, high = found.value, found.low, found.high
    if not all(map(math.isfinite, (value, low, high))):
        return _failed(name, limit, "measured, but not a number")
    inside, outside = (high <= limit, low > limit) if side == "at most" else (low >= limit, high < limit)
    verdict: Verdict = "pass" if inside else "fail" if outside else "cannot-tell"
    reason = f"{value:.4g} [{low:.4g}, {high:.4g}], {side} {limit:g} asked"
    needed = None
    if verdict == "cannot-tell":
        needed = need(found, limit, sample.what, sample.count)
        reason += f": the interval holds the limit; {need_text(needed)}"
    return _gate(name, limit, verdict, reason, found, needed=needed)


def _count(name: str, limit: float | None, found: float | None, *, unit: float = 1.0) -> ReportGate | None:
    """A figure without an interval; ``found`` is in units of ``1 / unit``."""
    if limit is None:
        return None
    if found is None:
        return _failed(name, limit, "not measured")
    value = found / unit
    if not math.isfinite(value):
        return _failed(name, limit, "measured, but not a number")
    exact = Interval(value=value, low=value, high=value)
    gate = _gate(
        name, limit, "pass" if value <= limit else "fail", f"{value:.6g}, at most {limit:g} asked", exact
    )
    return gate.model_copy(update={"low": None, "high": None})


def _p95(
    gates: Gates, row: ReportRow, conditions: Conditions | None, machine: str | None
) -> ReportGate | None:
    """Milliseconds mean something on one machine only: elsewhere nothing is said about them."""
    name, limit = "max_p95_ms", gates.max_p95_ms
    if limit is None:
        return None
    cell = headline_latency(row)
    if cell is None:
        return _failed(name, limit, "not measured")
    if not math.isfinite(cell.p95_ms):
        return _failed(name, limit, "measured, but not a number")
    if machine is None or gates.machine != machine:
        here = f"this is machine {machine}" if machine else "the machine of this measurement is not known"
        asked = (
            f"the limit is set for machine {gates.machine}" if gates.machine else "gates.machine is not set"
        )
        return _gate(name, limit, "cannot-tell", f"{cell.p95_ms:.4g} ms, but {asked}, and {here}", None)
    low, high = cell.p95_low, cell.p95_high
    bounds = Interval(
        value=cell.p95_ms,
        low=cell.p95_ms if low is None else low,
        high=cell.p95_ms if high is None else high,
    )
    rounds = Sample("rounds", conditions.rounds if conditions is not None else None)
    gate = _on_bound(name, limit, "at most", bounds, rounds)
    if gate.verdict == "fail" and conditions is not None and conditions.busy:
        reason = f"{gate.reason}: slower than that, but other processes kept the machine busy; measure again"
        return gate.model_copy(update={"verdict": "cannot-tell", "reason": reason})
    return gate


def _any_slice(limit: float | None, slices: tuple[Slice, ...]) -> ReportGate | None:
    """All slices at once: every interval must keep the limit.

    That is a test of each, so passing needs no correction. Failing does: of many slices that sit on the limit one
    lies outside by chance, so to fail, an interval must clear the limit at 95 % for all slices together.
    """
    name = "max_slice_drop"
    if limit is None:
        return None
    if not slices:
        return _failed(name, limit, "not measured: there are no slices (report.slices chooses them)")
    verdicts = []
    for part in slices:
        sample = Sample("rows", part.examples)
        gate = _on_bound(name, limit, "at most", part.drop, sample)
        together = at_once(part.drop, len(slices))
        text = part.name
        if gate.verdict == "fail" and together.low <= limit:
            gate = _on_bound(name, limit, "at most", together, sample)
            text += f" (interval widened for {len(slices)} slices)"
        verdicts.append(gate.model_copy(update={"reason": f"{text}: {gate.reason}"}))
    order = {"fail": 0, "cannot-tell": 1, "pass": 2}
    return min(verdicts, key=lambda gate: (order[gate.verdict], -(gate.value or 0.0)))


def _named_slice(name: str, limit: float, slices: tuple[Slice, ...]) -> ReportGate | None:
    gate = f"slices.{name}.max_quality_drop"
    found = next((part for part in slices if part.name == name), None)
    if found is None:
        present = [part.name for part in slices]
        listed = f"the slices are: {', '.join(present)}" if present else "there are no slices"
        return _failed(gate, limit, f"no slice is named {name!r}{suggestion(name, present)}; {listed}")
    return _on_bound(gate, limit, "at most", found.drop, Sample("rows", found.examples))


def _failed(name: str, limit: float, reason: str) -> ReportGate:
    return _gate(name, limit, "fail", reason, None)


def _gate(
    name: str,
    limit: float,
    verdict: Verdict,
    reason: str,
    found: Interval | None,
    *,
    needed: Need | None = None,
) -> ReportGate:
    return ReportGate(
        name=name,
        limit=limit,
        value=found.value if found else None,
        low=found.low if found else None,
        high=found.high if found else None,
        verdict=verdict,
        reason=reason,
        need=needed,
    )

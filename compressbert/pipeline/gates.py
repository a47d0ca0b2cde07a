"""Gates: limits a pipeline's last row must keep, judged on the bound of an interval and not on its middle."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from compressbert.config.schema import Gates
from compressbert.results.record import Interval, ReportGate, ReportRow

Side = Literal["at most", "at least"]
_ROWS = "more validation rows would tell"
_ROUNDS = "more rounds (benchmark.rounds) would tell"


def _judge_interval(name: str, limit: float, side: Side, found: Interval | None, remedy: str) -> ReportGate:
    """Pass if the whole interval keeps the limit, fail if none of it does, else cannot-tell."""
    if found is None:
        return _missing(name, limit, "not measured")
    value, low, high = found.value, found.low, found.high
    if not all(map(math.isfinite, (value, low, high))):
        return _missing(name, limit, "measured, but not a number")
    inside, outside = (high <= limit, low > limit) if side == "at most" else (low >= limit, high < limit)
    verdict: Literal["pass", "fail", "cannot-tell"] = (
        "pass" if inside else "fail" if outside else "cannot-tell"
    )
    reason = f"{value:.4g} [{low:.4g}, {high:.4g}], {side} {limit:g} asked"
    if verdict == "cannot-tell":
        reason += f": the interval holds the limit; {remedy}"
    return ReportGate(name=name, limit=limit, value=value, low=low, high=high, verdict=verdict, reason=reason)


def _judge_value(name: str, limit: float, value: float | None) -> ReportGate:
    if value is None:
        return _missing(name, limit, "not measured")
    if not math.isfinite(value):
        return _missing(name, limit, "measured, but not a number")
    return ReportGate(
        name=name,
        limit=limit,
        value=value,
        low=None,
        high=None,
        verdict="pass" if value <= limit else "fail",
        reason=f"{value:.4g}, at most {limit:g} asked",
    )


def _missing(name: str, limit: float, reason: str) -> ReportGate:
    return ReportGate(name=name, limit=limit, value=None, low=None, high=None, verdict="fail", reason=reason)


def judge(gates: Gates, row: ReportRow) -> tuple[ReportGate, ...]:
    """Verdicts on ``row`` for every gate that is set. What was not measured, or is not a number, fails."""
    megabytes = None if row.bytes_on_disk is None else row.bytes_on_disk / 1e6
    memory = None if row.memory is None else row.memory.peak_rss_mb
    verdicts = []
    if gates.max_quality_drop is not None:
        verdicts.append(
            _judge_interval("max_quality_drop", gates.max_quality_drop, "at most", row.quality_drop, _ROWS)
        )
    if gates.min_retained is not None:
        verdicts.append(_judge_interval("min_retained", gates.min_retained, "at least", row.retained, _ROWS))
    if gates.min_speedup is not None:
        verdicts.append(_judge_interval("min_speedup", gates.min_speedup, "at least", row.speedup, _ROUNDS))
    if gates.max_megabytes is not None:
        verdicts.append(_judge_value("max_megabytes", gates.max_megabytes, megabytes))
    if gates.max_memory_mb is not None:
        verdicts.append(_judge_value("max_memory_mb", gates.max_memory_mb, memory))
    return tuple(verdicts)


def exit_code(verdicts: Iterable[ReportGate], on_uncertain: Literal["fail", "warn", "measure-more"]) -> int:
    """1 if a gate failed, or could not tell and ``on_uncertain`` is fail; else 0."""
    refused = {"fail", "cannot-tell"} if on_uncertain == "fail" else {"fail"}
    return int(any(gate.verdict in refused for gate in verdicts))

from __future__ import annotations

import math
from typing import Any

import pytest

from compressbert.config.schema import Gates
from compressbert.pipeline.gates import exit_code, judge
from compressbert.results.record import Interval, MemoryFacts, ReportRow


def row(**measured: Any) -> ReportRow:
    return ReportRow(name="export", step="export", **measured)


def around(value: float, half: float) -> Interval:
    return Interval(value=value, low=value - half, high=value + half)


CASES = [
    ({"max_quality_drop": 0.01}, {"quality_drop": around(0.004, 0.003)}, "pass"),
    ({"max_quality_drop": 0.01}, {"quality_drop": around(0.004, 0.02)}, "cannot-tell"),
    ({"max_quality_drop": 0.01}, {"quality_drop": around(0.03, 0.01)}, "fail"),
    ({"max_quality_drop": 0.01}, {"quality_drop": around(0.012, 0.02)}, "cannot-tell"),
    ({"max_quality_drop": 0.01}, {"quality_drop": Interval(value=0.0, low=0.0, high=0.01)}, "pass"),
    ({"max_quality_drop": 0.0}, {"quality_drop": around(0.0, 0.0)}, "pass"),
    ({"min_retained": 0.98}, {"retained": around(0.995, 0.01)}, "pass"),
    ({"min_retained": 0.98}, {"retained": around(0.985, 0.01)}, "cannot-tell"),
    ({"min_retained": 0.98}, {"retained": around(0.95, 0.01)}, "fail"),
    ({"min_speedup": 4.0}, {"speedup": around(8.1, 0.2)}, "pass"),
    ({"min_speedup": 4.0}, {"speedup": around(4.1, 0.2)}, "cannot-tell"),
    ({"min_speedup": 4.0}, {"speedup": around(3.0, 0.2)}, "fail"),
    ({"max_megabytes": 18.5}, {"bytes_on_disk": 18_500_000}, "pass"),
    ({"max_megabytes": 18.5}, {"bytes_on_disk": 18_500_001}, "fail"),
    ({"max_memory_mb": 200}, {"memory": MemoryFacts(peak_rss_mb=199.0)}, "pass"),
    ({"max_memory_mb": 200}, {"memory": MemoryFacts(peak_rss_mb=201.0)}, "fail"),
]


@pytest.mark.parametrize(("limits", "measured", "verdict"), CASES)
def test_verdicts(limits: dict[str, float], measured: dict[str, Any], verdict: str) -> None:
    (gate,) = judge(Gates(**limits), row(**measured))
    assert (gate.name, gate.limit) == next(iter(limits.items()))
    assert gate.verdict == verdict
    assert f"{gate.limit:g} asked" in gate.reason


@pytest.mark.parametrize(
    "limits",
    [
        {"max_quality_drop": 0.01},
        {"min_retained": 0.9},
        {"min_speedup": 1},
        {"max_megabytes": 1},
        {"max_memory_mb": 1},
    ],
)
def test_what_was_not_measured_fails(limits: dict[str, float]) -> None:
    (gate,) = judge(Gates(**limits), row())
    assert (gate.verdict, gate.value, gate.reason) == ("fail", None, "not measured")


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_what_is_not_a_number_fails(broken: float) -> None:
    measured = row(
        speedup=Interval(value=broken, low=broken, high=broken), memory=MemoryFacts(peak_rss_mb=broken)
    )
    gates = judge(Gates(min_speedup=1, max_memory_mb=1), measured)
    assert [gate.verdict for gate in gates] == ["fail", "fail"]
    assert all("not a number" in gate.reason for gate in gates)


def test_bounds_that_are_not_numbers_fail() -> None:
    measured = row(quality_drop=Interval(value=0.0, low=-0.1, high=math.nan))
    assert judge(Gates(max_quality_drop=0.5), measured)[0].verdict == "fail"


def test_only_gates_that_are_set_are_judged() -> None:
    assert judge(Gates(), row()) == ()


def test_uncertain_says_what_would_help() -> None:
    gates = judge(
        Gates(max_quality_drop=0.01, min_speedup=4),
        row(quality_drop=around(0.01, 0.01), speedup=around(4, 1)),
    )
    assert "more validation rows" in gates[0].reason
    assert "more rounds" in gates[1].reason


@pytest.mark.parametrize(
    ("measured", "on_uncertain", "code"),
    [
        ({"quality_drop": around(0.0, 0.001)}, "fail", 0),
        ({"quality_drop": around(0.01, 0.01)}, "warn", 0),
        ({"quality_drop": around(0.01, 0.01)}, "fail", 1),
        ({"quality_drop": around(0.1, 0.01)}, "warn", 1),
        ({}, "warn", 1),
    ],
)
def test_exit_codes(measured: dict[str, Any], on_uncertain: Any, code: int) -> None:
    assert exit_code(judge(Gates(max_quality_drop=0.01), row(**measured)), on_uncertain) == code


def test_one_failure_among_passes_is_a_failure() -> None:
    gates = judge(Gates(min_speedup=2, max_megabytes=1), row(speedup=around(4, 1), bytes_on_disk=2_000_000))
    assert [gate.verdict for gate in gates] == ["pass", "fail"]
    assert exit_code(gates, "warn") == 1
    assert exit_code((), "fail") == 0

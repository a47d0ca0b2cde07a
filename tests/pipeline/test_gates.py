"""The table of cases: every gate on a clear pass, a clear fail, too little data, and figures that are not there."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressbert.config.schema import Gates
from compressbert.pipeline.enough import at_once, need, need_text
from compressbert.pipeline.gates import exit_code, judge
from compressbert.results.record import Conditions, Interval, LatencyCell, MemoryFacts, MetricResult, Slice
from compressbert.results.report import ReportGate, ReportRow

MACHINE = "0123abcd"
ACCURACY = {"accuracy": MetricResult(value=0.89, low=0.87, high=0.91, examples=872)}


def row(**measured: Any) -> ReportRow:
    settings = {"quality": ACCURACY, "primary_metric": "accuracy", **measured}
    return ReportRow(name="export", step="export", **settings)


def around(value: float, half: float) -> Interval:
    return Interval(value=value, low=value - half, high=value + half)


def conditions(*, rounds: int = 12, busy: bool = False) -> Conditions:
    return Conditions(threads=1, rounds=rounds, seconds=30.0, busy=busy)


def cell(p95: float, low: float | None = None, high: float | None = None) -> LatencyCell:
    return LatencyCell(
        runtime="onnxruntime", threads=1, batch=1, length=None, p50_ms=1.0, low=0.9, high=1.1, runs=100,
        p95_ms=p95, p95_low=low, p95_high=high,
    )  # fmt: skip


def part(name: str, drop: Interval, examples: int = 100) -> Slice:
    by = name.partition("=")[0]
    return Slice(name=name, by=by, examples=examples, baseline=0.9, candidate=0.88, drop=drop, p=None)


# Limits, what was measured, the verdict, and the exit code with on_uncertain fail and warn.
CASES: list[tuple[dict[str, Any], dict[str, Any], str, tuple[int, int]]] = [
    ({"max_quality_drop": 0.01}, {"quality_drop": around(0.004, 0.003)}, "pass", (0, 0)),
    ({"max_quality_drop": 0.01}, {"quality_drop": around(0.004, 0.02)}, "cannot-tell", (1, 0)),
    ({"max_quality_drop": 0.01}, {"quality_drop": around(0.03, 0.01)}, "fail", (1, 1)),
    ({"max_quality_drop": 0.01}, {"quality_drop": around(0.012, 0.02)}, "cannot-tell", (1, 0)),
    ({"max_quality_drop": 0.01}, {"quality_drop": Interval(value=0.0, low=0.0, high=0.01)}, "pass", (0, 0)),
    ({"max_quality_drop": 0.0}, {"quality_drop": around(0.0, 0.0)}, "pass", (0, 0)),
    ({"min_retained": 0.98}, {"retained": around(0.995, 0.01)}, "pass", (0, 0)),
    ({"min_retained": 0.98}, {"retained": around(0.985, 0.01)}, "cannot-tell", (1, 0)),
    ({"min_retained": 0.98}, {"retained": around(0.95, 0.01)}, "fail", (1, 1)),
    ({"min_speedup": 4.0}, {"speedup": around(8.1, 0.2)}, "pass", (0, 0)),
    ({"min_speedup": 4.0}, {"speedup": around(4.1, 0.2)}, "cannot-tell", (1, 0)),
    ({"min_speedup": 4.0}, {"speedup": around(3.0, 0.2)}, "fail", (1, 1)),
    ({"max_p95_ms": 5.0}, {"latency": (cell(4.0, 3.8, 4.4),)}, "pass", (0, 0)),
    ({"max_p95_ms": 5.0}, {"latency": (cell(4.9, 4.6, 5.2),)}, "cannot-tell", (1, 0)),
    ({"max_p95_ms": 5.0}, {"latency": (cell(6.0, 5.5, 6.4),)}, "fail", (1, 1)),
    ({"max_p95_ms": 5.0}, {"latency": (cell(4.9),)}, "pass", (0, 0)),
    ({"max_megabytes": 18.5}, {"bytes_on_disk": 18_500_000}, "pass", (0, 0)),
    ({"max_megabytes": 18.5}, {"bytes_on_disk": 18_500_001}, "fail", (1, 1)),
    ({"max_memory_mb": 200}, {"memory": MemoryFacts(peak_rss_mb=199.0)}, "pass", (0, 0)),
    ({"max_memory_mb": 200}, {"memory": MemoryFacts(peak_rss_mb=201.0)}, "fail", (1, 1)),
    ({"max_flips": 20}, {"flips": 20}, "pass", (0, 0)),
    ({"max_flips": 20}, {"flips": 21}, "fail", (1, 1)),
    ({"max_flips": 0}, {"flips": 0}, "pass", (0, 0)),
    (
        {"max_slice_drop": 0.02},
        {"slices": (part("label=a", around(0.005, 0.01)), part("label=b", around(0.0, 0.01)))},
        "pass",
        (0, 0),
    ),
    (
        {"max_slice_drop": 0.02},
        {"slices": (part("label=a", around(0.0, 0.01)), part("label=b", around(0.015, 0.01)))},
        "cannot-tell",
        (1, 0),
    ),
    (
        {"max_slice_drop": 0.02},
        {"slices": (part("label=a", around(0.0, 0.01)), part("label=b", around(0.08, 0.02)))},
        "fail",
        (1, 1),
    ),
]


def name_of(case: Any) -> str:
    return str(case) if isinstance(case, str) else next(iter(case), "") if isinstance(case, dict) else ""


@pytest.mark.parametrize(("limits", "measured", "verdict", "codes"), CASES, ids=name_of)
def test_verdicts_and_exit_codes(
    limits: dict[str, float], measured: dict[str, Any], verdict: str, codes: tuple[int, int]
) -> None:
    gates = judge(Gates(**limits, machine=MACHINE), row(**measured), conditions(), MACHINE)
    (gate,) = gates
    assert (gate.name, gate.limit) == next(iter(limits.items()))
    assert gate.verdict == verdict
    assert f"{gate.limit:g} asked" in gate.reason
    assert (exit_code(gates, "fail"), exit_code(gates, "warn")) == codes
    assert exit_code(gates, "measure-more") == codes[1]
    assert (gate.need is not None) == (verdict == "cannot-tell")


ALL: dict[str, Any] = {
    "max_quality_drop": 0.01,
    "min_retained": 0.9,
    "min_speedup": 1,
    "max_p95_ms": 1,
    "max_megabytes": 1,
    "max_memory_mb": 1,
    "max_flips": 1,
    "max_slice_drop": 0.1,
    "slices": {"label=a": {"max_quality_drop": 0.1}},
}


@pytest.mark.parametrize("name", ALL)
def test_what_was_not_measured_fails(name: str) -> None:
    gates = judge(Gates(**{name: ALL[name]}, machine=MACHINE), row(), conditions(), MACHINE)
    (gate,) = gates
    assert (gate.verdict, gate.value) == ("fail", None)
    assert "not measured" in gate.reason or "there are no slices" in gate.reason
    assert exit_code(gates, "warn") == 1


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_fails(broken: float) -> None:
    bad = Interval(value=broken, low=broken, high=broken)
    measured = row(
        quality_drop=bad, retained=bad, speedup=bad, memory=MemoryFacts(peak_rss_mb=broken),
        latency=(cell(broken),), slices=(part("label=a", bad),),
    )  # fmt: skip
    limits = {name: ALL[name] for name in ALL if name not in ("max_megabytes", "max_flips")}
    gates = judge(Gates(**limits, machine=MACHINE), measured, conditions(), MACHINE)
    assert len(gates) == len(limits)
    assert {gate.verdict for gate in gates} == {"fail"}
    assert all("not a number" in gate.reason for gate in gates)
    assert exit_code(gates, "warn") == 1


def test_bounds_that_are_not_numbers_fail() -> None:
    measured = row(quality_drop=Interval(value=0.0, low=-0.1, high=math.nan))
    assert judge(Gates(max_quality_drop=0.5), measured)[0].verdict == "fail"


def test_only_gates_that_are_set_are_judged() -> None:
    assert judge(Gates(), row()) == ()


@pytest.mark.parametrize(
    ("asked", "here", "words"),
    [
        ("ffff", MACHINE, "the limit is set for machine ffff, and this is machine 0123abcd"),
        (None, MACHINE, "gates.machine is not set, and this is machine 0123abcd"),
        (MACHINE, None, "the machine of this measurement is not known"),
    ],
)
def test_milliseconds_of_another_machine_tell_nothing(
    asked: str | None, here: str | None, words: str
) -> None:
    """Neither a comfortable pass nor a clear fail there is a verdict here."""
    for p95 in (1.0, 9.0):
        gates = judge(Gates(max_p95_ms=5, machine=asked), row(latency=(cell(p95),)), conditions(), here)
        assert gates[0].verdict == "cannot-tell"
        assert words in gates[0].reason
        assert gates[0].need is None
        assert exit_code(gates, "fail") == 1


def test_a_busy_machine_may_pass_but_not_fail_a_p95() -> None:
    verdicts = [
        judge(Gates(max_p95_ms=5, machine="m"), row(latency=(cell(p95),)), conditions(busy=True), "m")[0]
        for p95 in (4.0, 6.0)
    ]
    assert [gate.verdict for gate in verdicts] == ["pass", "cannot-tell"]
    assert "kept the machine busy" in verdicts[1].reason


def test_an_uncertain_gate_says_how_much_would_tell() -> None:
    """Half the width of an interval takes four times the rows: 0.02 must come down to 0.005, a quarter."""
    gates = judge(
        Gates(max_quality_drop=0.01, min_speedup=4),
        row(quality_drop=around(0.005, 0.02), speedup=around(4.5, 1.0)),
        conditions(rounds=12),
    )
    assert gates[0].need is not None
    assert gates[1].need is not None
    assert (gates[0].need.what, gates[0].need.now, gates[0].need.about) == ("rows", 872, 14_000)
    assert (gates[1].need.what, gates[1].need.now, gates[1].need.about) == ("rounds", 12, 48)
    assert "about 14,000 validation rows would tell if the value stays (872 now)" in gates[0].reason
    assert "about 48 rounds (benchmark.rounds) would tell" in gates[1].reason


def test_a_value_on_the_limit_has_no_number_of_rows() -> None:
    needed = need(around(0.01, 0.01), 0.01, "rows", 872)
    assert needed.about is None
    assert "no reasonable number of validation rows" in need_text(needed)
    assert need_text(need(around(0.02, 0.02), 0.01, "rows", None)) == "more validation rows would tell"


@given(
    value=st.floats(-0.05, 0.05),
    half=st.floats(0.001, 0.1),
    limit=st.floats(-0.05, 0.05),
    rows=st.integers(10, 100_000),
)
def test_the_sample_said_to_be_enough_is(value: float, half: float, limit: float, rows: int) -> None:
    needed = need(around(value, half), limit, "rows", rows)
    if needed.about is not None and half > abs(limit - value):
        smaller = half * math.sqrt(rows / needed.about)
        assert smaller <= abs(limit - value) * (1 + 1e-9)
        assert needed.about <= max(10, 1.11 * rows * (half / abs(limit - value)) ** 2 + 1)


def test_the_worst_slice_is_named() -> None:
    slices = (part("label=a", around(0.06, 0.01)), part("label=b", around(0.09, 0.01)))
    (gate,) = judge(Gates(max_slice_drop=0.02), row(slices=slices))
    assert gate.verdict == "fail"
    assert gate.value == 0.09
    assert gate.reason.startswith("label=b: ")


def test_one_of_many_slices_just_outside_is_chance() -> None:
    """low = 0.021 lies above 0.02 for one slice alone, and below it when 20 intervals must hold together."""
    outside = part("length 1-8", Interval(value=0.05, low=0.021, high=0.079))
    others = tuple(part(f"label={n}", around(0.0, 0.01)) for n in range(19))
    alone = judge(Gates(max_slice_drop=0.02), row(slices=(outside,)))[0]
    among = judge(Gates(max_slice_drop=0.02), row(slices=(outside, *others)))[0]
    assert (alone.verdict, among.verdict) == ("fail", "cannot-tell")
    assert "length 1-8 (interval widened for 20 slices)" in among.reason


def test_widening_one_interval_changes_nothing_and_two_by_the_normal_quantiles() -> None:
    assert at_once(around(0.5, 0.1), 1) == around(0.5, 0.1)
    two = at_once(around(0.0, 1.959964), 2)  # 1.959964 = z(0.975), and z(1 - 0.025 / 2) = 2.241403
    assert two.high == pytest.approx(2.241403, abs=1e-5)
    assert two.low == -two.high


def test_a_named_slice_has_a_limit_of_its_own() -> None:
    slices = (part("label=a", around(0.0, 0.005)), part("label=b", around(0.06, 0.01)))
    limits = {"label=b": {"max_quality_drop": 0.02}, "label=a": {"max_quality_drop": 0.02}}
    gates = judge(Gates.model_validate({"slices": limits}), row(slices=slices))
    assert [(gate.name, gate.verdict) for gate in gates] == [
        ("slices.label=a.max_quality_drop", "pass"),
        ("slices.label=b.max_quality_drop", "fail"),
    ]


def test_an_unknown_slice_fails_and_lists_those_present() -> None:
    slices = (part("label=negative", around(0.0, 0.005)), part("length 1-8", around(0.0, 0.01)))
    limits = {"label=negativ": {"max_quality_drop": 0.02}}
    (gate,) = judge(Gates.model_validate({"slices": limits}), row(slices=slices))
    assert gate.verdict == "fail"
    assert "no slice is named 'label=negativ' (did you mean 'label=negative'?)" in gate.reason
    assert "the slices are: label=negative, length 1-8" in gate.reason


def test_one_failure_among_passes_is_a_failure() -> None:
    gates = judge(Gates(min_speedup=2, max_megabytes=1), row(speedup=around(4, 1), bytes_on_disk=2_000_000))
    assert [gate.verdict for gate in gates] == ["pass", "fail"]
    assert exit_code(gates, "warn") == 1
    assert exit_code((), "fail") == 0


def test_a_verdict_survives_its_json() -> None:
    (gate,) = judge(Gates(min_speedup=4), row(speedup=around(4.1, 0.2)), conditions())
    assert ReportGate.model_validate_json(gate.model_dump_json()) == gate

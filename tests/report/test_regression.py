from __future__ import annotations

import json
import math
from typing import Any

import jsonschema
import numpy as np
import pytest
from rich.console import Console

from compressbert.report import regression_views as views
from compressbert.report.regression import Paired, difference, judge, regression, relative
from compressbert.results.record import Conditions, Interval, MemoryFacts, MetricResult
from compressbert.results.regression import Change, Regression
from compressbert.results.report import Report
from compressbert.results.schema import record_schema
from tests.report.examples import around, example, full
from tests.report.test_html import HOSTILE, Page


def interval(value: float, low: float, high: float) -> Interval:
    return Interval(value=value, low=low, high=high)


def changed(**changes: Any) -> Report:
    """The full report with other figures in its last row."""
    report = full()
    last = report.rows[-1].model_copy(update=changes)
    return report.model_copy(update={"rows": (*report.rows[:-1], last)})


def scored(accuracy: float, half: float = 0.02, examples: int = 872) -> dict[str, MetricResult]:
    return {
        "accuracy": MetricResult(value=accuracy, low=accuracy - half, high=accuracy + half, examples=examples)
    }


def verdicts(found: Regression) -> dict[str, str]:
    return {change.name: change.verdict for change in found.changes}


def named(found: Regression, name: str) -> Change:
    return next(change for change in found.changes if change.name == name)


def test_difference_is_the_arithmetic_of_its_bounds() -> None:
    found = difference(interval(0.90, 0.88, 0.91), interval(0.85, 0.83, 0.88))
    assert found.value == pytest.approx(-0.05)
    assert found.low == pytest.approx(-0.05 - math.sqrt(0.02**2 + 0.01**2))
    assert found.high == pytest.approx(-0.05 + math.sqrt(0.03**2 + 0.02**2))


def test_a_ratio_turned_round_is_its_inverse() -> None:
    old, new = interval(4.0, 3.8, 4.3), interval(5.0, 4.9, 5.2)
    there, back = relative(old, new), relative(new, old)
    assert there.value == pytest.approx(0.25)
    assert (1 + there.low) * (1 + back.high) == pytest.approx(1)
    assert (1 + there.high) * (1 + back.low) == pytest.approx(1)


def test_the_recovered_interval_covers_the_true_difference() -> None:
    """Two independent means with 95 % intervals of unequal width: about 95 % of the differences' hold the truth."""
    generator = np.random.default_rng(0)
    old, new = generator.normal(0.90, 0.010, 4000), generator.normal(0.87, 0.004, 4000)
    hits = 0
    for one, other in zip(old, new, strict=True):
        found = difference(
            interval(one, one - 0.0196, one + 0.0196), interval(other, other - 0.00784, other + 0.00784)
        )
        hits += found.low <= -0.03 <= found.high
    assert 0.94 < hits / 4000 < 0.96


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (interval(0.0, -0.009, 0.009), "unchanged"),
        (interval(-0.005, -0.009, -0.001), "unchanged"),  # certain, and too little to matter
        (interval(-0.02, -0.03, -0.001), "worse"),
        (interval(0.02, 0.001, 0.03), "better"),
        (interval(-0.008, -0.02, -0.001), "cannot-tell"),  # certainly lower, but is it by more than allowed?
        (interval(-0.02, -0.05, 0.01), "cannot-tell"),
        (interval(-0.02, -0.02, -0.02), "worse"),
    ],
)
def test_verdicts(change: Interval, verdict: str) -> None:
    assert judge(change, 0.01, higher_is_better=True) == verdict
    turned = {"better": "worse", "worse": "better"}.get(verdict, verdict)
    assert judge(change, 0.01, higher_is_better=False) == turned


def test_the_same_report_twice_is_never_worse() -> None:
    found = regression(full(), full())
    assert found.exit_code == 0
    assert set(verdicts(found).values()) <= {"unchanged", "cannot-tell"}
    assert verdicts(found)["bytes on disk"] == "unchanged"
    assert [change.name for change in found.changes] == [
        "accuracy", "retained", "speed-up, data's lengths", "speed-up, 1 × 32", "speed-up, 8 × 128",
        "bytes on disk", "peak memory, MB",
    ]  # fmt: skip


def test_a_planted_regression_of_each_kind_is_found() -> None:
    """Five points lost, a third of the speed, a tenth more bytes, half more memory."""
    slower = {name: around(ratio.value * 2 / 3) for name, ratio in full().rows[-1].speedup_by_cell.items()}
    worse = changed(
        quality=scored(0.8275), retained=around(0.93, 0.01), speedup_by_cell=slower, bytes_on_disk=19_250_000,
        memory=MemoryFacts(peak_rss_mb=225.0),
    )  # fmt: skip
    found = regression(full(), worse)
    assert set(verdicts(found).values()) == {"worse"}
    assert found.exit_code == 1
    grown = named(found, "bytes on disk").change
    assert grown is not None
    assert (grown.low, grown.value, grown.high) == pytest.approx((0.1, 0.1, 0.1))
    assert named(found, "speed-up, 8 × 128").change.value == pytest.approx(-1 / 3)  # type: ignore[union-attr]
    back = regression(worse, full())
    assert set(verdicts(back).values()) == {"better"}
    assert back.exit_code == 0


def test_tolerances_are_the_users() -> None:
    more = changed(bytes_on_disk=int(full().rows[-1].bytes_on_disk * 1.03))  # type: ignore[operator]
    assert verdicts(regression(full(), more))["bytes on disk"] == "worse"
    assert verdicts(regression(full(), more, tolerances={"size": 0.05}))["bytes on disk"] == "unchanged"


def test_pairing_decides_what_two_intervals_cannot() -> None:
    """Two points lost on the same 872 rows: the reports alone cannot tell, the predictions can."""
    lower = changed(quality=scored(0.8575))
    assert verdicts(regression(full(), lower))["accuracy"] == "cannot-tell"
    found = regression(full(), lower, paired=Paired(interval(-0.02, -0.032, -0.008), 872))
    assert verdicts(found)["accuracy"] == "worse"
    assert named(found, "accuracy").basis == "paired on 872 rows"
    kept = named(found, "retained").change
    assert kept is not None
    assert (kept.value, kept.low) == (pytest.approx(-0.02 / 0.89), pytest.approx(-0.032 / 0.89))


def test_what_cannot_be_held_against_each_other_is_not_judged() -> None:
    other = full().environment.model_copy(update={"cpu": "Another CPU"})
    moved = changed(bytes_on_disk=30_000_000).model_copy(update={"environment": other})
    found = regression(full(), moved)
    assert {c.verdict for c in found.changes if c.kind in ("speed", "memory")} == {"cannot-tell"}
    assert named(found, "peak memory, MB").basis == "measured on different machines"
    assert verdicts(found)["bytes on disk"] == "worse"  # bytes are bytes on every machine

    report = full()
    smaller = report.rows[0].model_copy(update={"parameters": 11_000_000})
    other_base = report.model_copy(update={"rows": (smaller, *report.rows[1:])})
    found = regression(report, other_base)
    assert {c.basis for c in found.changes if c.kind == "speed"} == {"the baselines differ in shape"}

    more_rows = regression(full(), changed(quality=scored(0.5, examples=1000)))
    assert named(more_rows, "accuracy").basis == "872 rows then, 1,000 now"
    assert verdicts(more_rows)["accuracy"] == verdicts(more_rows)["retained"] == "cannot-tell"

    gone = regression(full(), changed(speedup_by_cell={}, memory=None))
    assert named(gone, "peak memory, MB").basis == "not measured now"
    assert gone.exit_code == 0


def test_lower_is_better_for_a_loss() -> None:
    def lost(value: float) -> Report:
        loss = MetricResult(value=value, low=value - 0.02, high=value + 0.02, examples=872, direction="lower")
        return changed(primary_metric="loss", quality={"loss": loss}, retained=None)

    assert verdicts(regression(lost(0.3), lost(0.5)))["loss"] == "worse"
    assert verdicts(regression(lost(0.5), lost(0.3)))["loss"] == "better"


def test_a_busy_machine_is_said() -> None:
    busy = Conditions(threads=1, rounds=5, seconds=3.0, busy=True)
    found = regression(full(), full().model_copy(update={"conditions": busy}))
    assert "busy" in found.notes[0]
    assert found.notes[0].startswith("The new report")


def planted() -> Regression:
    return regression(full(), changed(quality=scored(0.80), bytes_on_disk=16_000_000))


def test_the_record_fits_its_schema() -> None:
    document, schema = json.loads(planted().model_dump_json()), record_schema("regression")
    jsonschema.validate(document, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "unknown": 1}, schema)


def test_views_put_the_worst_first_and_say_what_is_certain() -> None:
    found = planted()
    assert next(line.name for line in views.changes(found).lines) == "accuracy"
    assert views.summary(found) == (
        "Worse: accuracy. Better: bytes on disk. Cannot tell: retained. The rest is unchanged."
    )
    same = views.summary(regression(full(), full(), tolerances={"quality": 0.1}))
    assert same == "Nothing is certainly worse. All is unchanged."
    text = views.render_markdown(found)
    assert (
        "| **accuracy** | ✗ worse | 87.8 [85.8, 89.8] | 80.0 [78.0, 82.0] | −7.7 [−10.6, −4.9] | ± 1 point |"
        in text
    )
    page = Page(views.render_html(found))
    assert "verdict worse" in page.values("class")
    assert "from the two intervals" in page.text


@pytest.mark.parametrize("width", [80, 140])
def test_the_terminal_is_wide_enough(width: int) -> None:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(views.RegressionView(planted()))
    console.file.close()
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    assert any("✗ worse" in line for line in lines)
    assert any("[−10.6, −4.9]" in line for line in lines)


def test_hostile_names_stay_text() -> None:
    report = example(title=HOSTILE)
    hostile = changed(primary_metric=HOSTILE, quality={HOSTILE: scored(0.8)["accuracy"]}, name=HOSTILE)
    found = regression(report, hostile.model_copy(update={"title": HOSTILE}))
    page = Page(views.render_html(found))
    assert page.tags["script"] == page.tags["img"] == 0
    assert HOSTILE in page.text
    assert "<script>" not in views.render_markdown(found)

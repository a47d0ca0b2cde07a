"""Plots: what they pick from many rows, where they put it, and that it fits."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressbert.report import figures, tables
from compressbert.report.plots import chain as chain_plot
from compressbert.report.plots import latency, tradeoff, training
from compressbert.report.plots.frame import spread
from compressbert.report.selection import chain, notable, pareto_front
from compressbert.report.svg import Drawing, Scale, even_ticks, fitted, log_ticks, text_width
from compressbert.results.record import MetricResult
from tests.report.examples import around, cell, example, full, row, sweep

positive = st.floats(1e-3, 1e6)


def test_the_pareto_front_is_what_nothing_beats() -> None:
    rows = (
        row("base", accuracy=0.90, p50=4.0),
        row("front", accuracy=0.89, p50=2.0),
        row("beaten", accuracy=0.88, p50=3.0),
        row("fastest", accuracy=0.80, p50=1.0),
        row("slower and as good", accuracy=0.90, p50=5.0),
        row("untimed", accuracy=0.99, latency=()),
    )
    found = [entry.name for entry in pareto_front(example(rows=rows, baseline="base"))]
    assert found == ["fastest", "front", "base"]


def test_a_front_of_losses_prefers_the_lower() -> None:
    def scored(name: str, loss: float, p50: float) -> object:
        quality = {"loss": MetricResult(value=loss, low=loss, high=loss, examples=9, direction="lower")}
        return row(name, p50=p50, quality=quality, primary_metric="loss")

    rows = (scored("a", 0.3, 2.0), scored("b", 0.4, 3.0), scored("c", 0.2, 4.0))
    assert [e.name for e in pareto_front(example(rows=rows, baseline="a"))] == ["a", "c"]


def test_many_rows_are_cut_to_those_that_stand_out() -> None:
    report = sweep(200)
    shown = [entry.name for entry in notable(report, report.rows, 10)]
    front = {entry.name for entry in pareto_front(report)}
    assert len(shown) == 10
    assert shown[0] == report.baseline
    assert shown[-1] == report.rows[-1].name
    assert set(shown) <= front | {report.baseline, report.rows[-1].name}
    assert shown == [entry.name for entry in report.rows if entry.name in shown]
    assert len(notable(report, report.rows[:10], 10)) == 10


def test_the_chain_follows_parents_and_ends_in_loops() -> None:
    assert [entry.name for entry in chain(full())] == ["finetune", "distill", "prune", "quantize", "export"]
    assert chain(example()) == ()
    rows = (row("a", parent="b"), row("b", parent="a"))
    assert [entry.name for entry in chain(example(rows=rows, baseline="a"))] == ["a", "b"]


def test_the_waterfall_shows_what_each_step_changed() -> None:
    report = full()
    svg = chain_plot.quality(report)
    assert svg is not None
    assert re.findall(r'class="strong"[^>]*>([^<]*)<', svg) == ["", "−0.5", "−0.6", "+0.2", "−0.4"]
    size = chain_plot.size(report)
    assert size is not None
    assert re.findall(r'class="strong"[^>]*>([^<]*)<', size) == ["", "÷1.30", "÷1.06", "÷3.79", "×1.01"]
    table = tables.steps(report)
    assert table is not None
    assert [line.cells[1].text for line in table.lines] == ["2.00×", "1.18×", "3.21×", "1.06×"]


def test_a_steps_speed_is_its_speed_up_against_the_one_before() -> None:
    rows = (
        row("base", p50=8.0),
        row("a", p50=7.0, speedup=around(2.0)),
        row("b", p50=1.0, speedup=around(5.0)),
    )
    report = example(rows=rows, baseline="base")
    assert figures.step_speedup(report, rows[0], rows[1]) == 2.0
    assert figures.step_speedup(report, rows[1], rows[2]) == 2.5
    untimed = row("c", p50=4.0)
    assert figures.step_speedup(report, rows[0], untimed) == 2.0  # by the medians


def test_latency_is_drawn_where_most_shapes_were_timed() -> None:
    cells = (cell(16, 1.0), cell(64, 2.0), cell(128, 4.0), cell(128, 20.0, batch=8), cell(None, 1.5))
    report = example(rows=(row("finetune", latency=cells),))
    by_length, by_batch = latency.against_length(report), latency.against_batch(report)
    assert by_length is not None
    assert by_batch is not None
    assert (by_length[1], by_batch[1]) == ("Batch 1.", "Length 128.")
    assert "finetune: 1.00 at 16, 2.00 at 64, 4.00 at 128" in by_length[0]
    assert "finetune: 4.00 at 1, 2.50 at 8" in by_batch[0]  # milliseconds a text
    one_shape = example(rows=(row("finetune", latency=(cell(16, 1.0), cell(None, 1.5))),))
    assert latency.against_length(one_shape) is None


def test_stages_of_a_training_follow_each_other() -> None:
    log = tuple({"step": step, "loss": 1.0, "task": 1.0} for step in (10.0, 20.0, 10.0, 20.0, 30.0))
    ((_, svg),) = training.draw(example(rows=(row("finetune", training=log),)))
    curves = re.findall(r'class="mark curve ink" d="M([^"]*)"', svg)
    assert [len(curve.split("L")) for curve in curves] == [2, 3]
    starts = [float(curve.split(" ")[0]) for curve in curves]
    assert starts[0] < starts[1]


def test_names_never_lie_on_each_other() -> None:
    """The places of all names, taken as boxes, are apart."""
    svg = tradeoff.draw(sweep(60), 720)
    assert svg is not None
    found = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="name"(?: text-anchor="(\w+)")?>([^<]+)<', svg)
    assert len(found) >= 8
    boxes = []
    for x, y, anchor, name in found:
        left = float(x) - (text_width(name) if anchor == "end" else 0)
        boxes.append((left, float(y) - 10, left + text_width(name), float(y)))
    for index, one in enumerate(boxes):
        for other in boxes[index + 1 :]:
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-6, 1e6), count=st.integers(2, 8))
def test_even_ticks_are_round_and_within(low: float, width: float, count: int) -> None:
    high = low + max(width, abs(low) * 1e-6)
    found = even_ticks(low, high, count)
    slack = (high - low) * 1e-6
    assert all(low - slack <= tick <= high + slack for tick in found)
    assert len(found) <= count + 1


@given(low=positive, factor=st.floats(1.05, 1e5))
def test_log_ticks_are_within_and_enough(low: float, factor: float) -> None:
    found = log_ticks(low, low * factor)
    assert all(low * (1 - 1e-6) <= tick <= low * factor * (1 + 1e-6) for tick in found)
    assert list(found) == sorted(set(found))
    assert len(found) >= (2 if factor > 1.5 else 1)


@given(st.lists(st.floats(0, 200), min_size=1, max_size=12))
def test_labels_are_spread_in_order(wanted: list[float]) -> None:
    places = spread(wanted, 13, 0, 200)
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    for before, after in pairwise(order):
        assert places[after] - places[before] >= 13 - 1e-6
    assert max(places) <= 200 + 1e-6


@given(st.text(max_size=60), st.floats(20, 300))
def test_fitted_text_fits(text: str, width: float) -> None:
    assert text_width(fitted(text, width)) <= max(width, text_width("…")) + 1e-6


@pytest.mark.parametrize(("log", "expected"), [(False, 50.0), (True, 50.0)])
def test_scales_put_the_middle_in_the_middle(log: bool, expected: float) -> None:
    scale = Scale(1, 100, 0, 100, log=log)
    assert scale(10 if log else 50.5) == pytest.approx(expected)
    assert (scale(1), scale(100)) == (0, 100)


def test_drawn_text_is_escaped() -> None:
    drawing = Drawing("a", 10, 10, title="<i>", description="&")
    drawing.text(0, 0, "<b>")
    drawing.dot(0, 0, "mark", tip='"><script>')
    svg = drawing.render()
    assert "<b>" not in svg
    assert "<script>" not in svg
    assert "<i>" not in svg
    assert svg.count("&lt;") == 3

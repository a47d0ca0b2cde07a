"""Whatever was measured or was not, every form of a report can be made."""

from __future__ import annotations

import io
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from compressbert.report import html, markdown, terminal
from compressbert.report.regression import regression
from compressbert.report.regression_views import render_html, render_markdown
from compressbert.results.record import Interval, LatencyCell, MetricResult, NonInferiority, Slice
from compressbert.results.report import Report, ReportRow
from tests.report.examples import ENVIRONMENT
from tests.report.test_html import Page

numbers = st.floats(-1e6, 1e6) | st.just(0.0) | st.floats(-1e-9, 1e-9)
positive = st.floats(1e-6, 1e6)
names = st.text(min_size=1, max_size=40)
metrics = st.sampled_from(["accuracy", "loss", "perplexity", "<b>"])


def intervals(values: st.SearchStrategy[float]) -> st.SearchStrategy[Interval]:
    return st.lists(values, min_size=3, max_size=3).map(
        lambda found: Interval(low=min(found), value=sorted(found)[1], high=max(found))
    )


def metric(found: Interval, direction: Any) -> MetricResult:
    return MetricResult(**found.model_dump(), direction=direction, examples=100)


def cell(shape: tuple[int, int | None], found: Interval) -> LatencyCell:
    return LatencyCell(
        runtime="onnxruntime", threads=1, batch=shape[0], length=shape[1], p50_ms=found.value,
        p95_ms=found.high, low=found.low, high=found.high, runs=1,
    )  # fmt: skip


def part(name: str, drop: Interval, worse: bool) -> Slice:
    return Slice(name=name, by="label", examples=1, baseline=0, candidate=0, drop=drop, worse=worse)


shapes = st.sampled_from([(1, 16), (1, 128), (8, 128), (1, None)])
points = st.dictionaries(st.sampled_from(["step", "loss", "task", "soft"]), numbers, min_size=1)
rows = st.builds(
    ReportRow,
    name=names,
    step=names,
    method=st.none() | names,
    primary_metric=st.none() | metrics,
    quality=st.dictionaries(metrics, st.builds(metric, intervals(numbers), st.sampled_from(["higher", "lower"]))),
    retained=st.none() | intervals(numbers),
    quality_drop=st.none() | intervals(numbers),
    flips=st.none() | st.integers(0, 10**6),
    mcnemar_p=st.none() | st.floats(0, 1),
    noninferiority=st.none()
    | st.builds(NonInferiority, margin=positive, answer=st.sampled_from(["yes", "no", "cannot-tell"])),
    slices=st.lists(st.builds(part, names, intervals(numbers), st.booleans()), max_size=4).map(tuple),
    training=st.lists(points, max_size=5).map(tuple),
    parent=st.none() | names,
    compression=st.none() | positive,
    speedup=st.none() | intervals(positive),
    speedup_by_cell=st.dictionaries(st.sampled_from(["data", "1x16", "8x128"]), intervals(positive)),
    latency=st.lists(st.builds(cell, shapes, intervals(positive)), max_size=4).map(tuple),
    parameters=st.none() | st.integers(0, 10**12),
    bytes_on_disk=st.none() | st.integers(0, 10**12),
    bytes_by_component=st.dictionaries(names, st.integers(0, 10**12), max_size=3),
    heads_per_layer=st.lists(st.integers(0, 16), max_size=4).map(tuple),
)  # fmt: skip


def assembled(found: list[ReportRow], linked: bool) -> Report:
    """The rows under names of their own; ``linked``: each made from the one before."""
    own = [f"{row.name} {number}" for number, row in enumerate(found)]
    named = []
    for number, row in enumerate(found):
        parent = own[number - 1] if linked and number else row.parent
        named.append(row.model_copy(update={"name": own[number], "parent": parent}))
    return Report(title="t", baseline=own[0], rows=tuple(named), environment=ENVIRONMENT)


reports = st.builds(assembled, st.lists(rows, min_size=1, max_size=4), st.booleans())


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(reports, st.sampled_from([40, 80, 200]))
def test_every_form_can_be_made(report: Report, width: int) -> None:
    page = Page(html.render(report))
    assert page.tags["h1"] == 1
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert "nan" not in " ".join(page.values("d") + page.values("x") + page.values("cx")).lower()
    assert markdown.render(report).startswith("# t\n")
    console = Console(file=io.StringIO(), width=width)
    terminal.show(report, console)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(reports, reports)
def test_any_two_reports_can_be_held_against_each_other(old: Report, new: Report) -> None:
    found = regression(old, new)
    Page(render_html(found))
    render_markdown(found)
    turned = {"better": "worse", "worse": "better"}
    back = {change.name: change.verdict for change in regression(new, old).changes}
    for change in found.changes:
        if change.kind != "quality" and change.change is not None and abs(change.change.value) < 0.01:
            assert back[change.name] in (change.verdict, turned.get(change.verdict))

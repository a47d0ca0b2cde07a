"""The chain that led to the last row as waterfalls: what each step changed in quality, latency and size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from compressbert.report import figures
from compressbert.report.plots import frame
from compressbert.report.plots.frame import GAP, NARROW
from compressbert.report.selection import chain
from compressbert.report.svg import FONT, LINE, Drawing, Scale, padded, text_width
from compressbert.results.record import Interval
from compressbert.results.report import Report, ReportRow

_BAND, _BAR = 24.0, 13.0


def quality(report: Report, width: float = NARROW) -> str | None:
    """SVG of the points each step lost or gained, and the interval of what was lost against the baseline."""
    rows = chain(report)
    drops = [drop for row in rows if (drop := _drop(report, row)) is not None]
    if not rows or len(drops) < len(rows):
        return None
    percent = figures.in_percent(rows[-1].primary_metric)
    factor = 100.0 if percent else 1.0
    levels = [-drop.value * factor for drop in drops]
    changes = [
        "",
        *(figures.signed(after - before, 1 if percent else 3) for before, after in pairwise(levels)),
    ]
    ladder = _Ladder.of(
        rows, changes, width, name="chain-quality", title="Quality gained and lost by each step"
    )
    bounds = [-bound * factor for drop in drops for bound in (drop.low, drop.high)]
    unit = "points" if percent else rows[-1].primary_metric or "metric"
    scale = ladder.scale(*padded([0.0, *levels, *bounds], 0.04), label=f"{unit} against {report.baseline}")
    drawing = ladder.drawing
    drawing.line(scale(0), 0, scale(0), ladder.bottom, "rule")
    for index, (row, drop) in enumerate(zip(rows, drops, strict=True)):
        before, after = levels[max(index - 1, 0)], levels[index]
        kind = "lost" if after < before else "gained"
        ladder.bar(index, scale(before), scale(after), kind, f"{row.name}: {changes[index] or 'the start'}")
        against = Interval(value=-drop.value, low=-drop.high, high=-drop.low)
        middle = ladder.middle(index)
        frame.whisker(drawing, scale, against, middle, "ink", factor=factor)
        drawing.dot(scale(after), middle, "mark fill ink", radius=2.5)
    return drawing.render()


def latency(report: Report, width: float = NARROW) -> str | None:
    """SVG of median latency step by step, what each took away beside what is left."""
    rows = chain(report)
    cells = [cell for row in rows if (cell := figures.headline_latency(row)) and cell.p50_ms > 0]
    if not rows or len(cells) < len(rows):
        return None
    values = [cell.p50_ms for cell in cells]
    ratios = [figures.step_speedup(report, before, after) for before, after in pairwise(rows)]
    ladder = _falling(rows, values, ratios, width, name="chain-latency", label="median latency, ms")
    return ladder.drawing.render()


def size(report: Report, width: float = NARROW) -> str | None:
    """SVG of megabytes on disk step by step."""
    rows = chain(report)
    sizes = [row.bytes_on_disk / 1e6 for row in rows if row.bytes_on_disk]
    if not rows or len(sizes) < len(rows):
        return None
    ratios = [before / after for before, after in pairwise(sizes)]
    return _falling(rows, sizes, ratios, width, name="chain-size", label="megabytes on disk").drawing.render()


def _falling(
    rows: Sequence[ReportRow], values: Sequence[float], ratios: Sequence[float | None], width: float,
    *, name: str, label: str,
) -> _Ladder:  # fmt: skip
    """Bars from nothing to each value; pale what the step took away, red what it added."""
    factors = ["", *map(_factor, ratios)]
    ladder = _Ladder.of(rows, factors, width, name=name, title=f"{label.capitalize()}, step by step")
    scale = ladder.scale(0, max(values), label=label)
    for index, (row, value) in enumerate(zip(rows, values, strict=True)):
        before = values[max(index - 1, 0)]
        tip = f"{row.name}: {figures.milliseconds(value)}"
        ladder.bar(index, scale(0), scale(min(value, before)), "s1", tip)
        ladder.bar(index, scale(before), scale(value), "ghost" if value < before else "lost", "")
    return ladder


@dataclass
class _Ladder:
    """A drawing with one band a row: its name at the left, what changed at the right."""

    drawing: Drawing
    left: float
    right: float
    bottom: float

    @classmethod
    def of(
        cls, rows: Sequence[ReportRow], changes: Sequence[str], width: float, *, name: str, title: str
    ) -> _Ladder:
        described = "; ".join(
            f"{row.name} {change}".strip() for row, change in zip(rows, changes, strict=True)
        )
        bottom = _BAND * len(rows)
        drawing = Drawing(
            f"{name}-{width:.0f}", width, bottom + 2 * LINE + GAP, title=title, description=described
        )
        left = frame.gutter([row.name for row in rows], width)
        ladder = cls(drawing, left, width - max(map(text_width, changes)) - 2 * GAP, bottom)
        for index, (row, change) in enumerate(zip(rows, changes, strict=True)):
            frame.row_name(drawing, row.name, left, ladder.middle(index))
            drawing.text(width, ladder.middle(index) + FONT / 3, change, anchor="end", kind="strong")
        return ladder

    def middle(self, index: int) -> float:
        return _BAND * (index + 0.5)

    def scale(self, low: float, high: float, *, label: str) -> Scale:
        scale = Scale(low, high, self.left, self.right)
        frame.horizontal_axis(self.drawing, scale, top=0, bottom=self.bottom, label=label)
        return scale

    def bar(self, index: int, start: float, end: float, kind: str, tip: str) -> None:
        low, high = sorted((start, end))
        if high - low > 0.05:
            self.drawing.bar(low, self.middle(index) - _BAR / 2, high - low, _BAR, f"mark fill {kind}", tip)


def _factor(ratio: float | None) -> str:
    if ratio is None:
        return figures.ABSENT
    return f"÷{ratio:.2f}" if ratio >= 0.995 else f"×{1 / ratio:.2f}"


def _drop(report: Report, row: ReportRow) -> Interval | None:
    """What the row lost; the baseline has lost nothing against itself."""
    return Interval(value=0, low=0, high=0) if row.name == report.baseline else row.quality_drop

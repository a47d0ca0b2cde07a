"""Quality against latency, with both intervals and the Pareto front."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from compressbert.report import figures
from compressbert.report.plots.frame import GAP, NARROW, horizontal_axis, vertical_axis
from compressbert.report.selection import notable, pareto_front
from compressbert.report.svg import FONT, LINE, Drawing, Scale, fitted, padded, padded_log, text_width
from compressbert.results.record import LatencyCell, MetricResult
from compressbert.results.report import Report, ReportRow

NAMED = 14  # more names than this hide each other
_MANY = 24  # from here on points are small, and only the baseline's and the last row's intervals stand out


@dataclass(frozen=True)
class Point:
    """A row in the plane; the bounds are places on the drawing."""

    row: ReportRow
    quality: MetricResult
    cell: LatencyCell
    x: float
    y: float
    left: float
    right: float
    top: float
    bottom: float


def draw(report: Report, width: float = NARROW) -> str | None:
    """SVG of the primary metric against median latency, which has a logarithmic scale."""
    rows = [row for row in report.rows if figures.primary(row) and _latency(row)]
    if not rows:
        return None
    metric = rows[0].primary_metric
    height = 330.0 if width > NARROW else 300.0
    front = [row.name for row in pareto_front(report)]
    drawing = Drawing(
        f"tradeoff-{width:.0f}", width, height, title="Quality against latency",
        description=f"{len(rows)} rows. On the Pareto front, the fastest first: {', '.join(front)}.",
    )  # fmt: skip
    left, points = _axes(drawing, rows, metric)
    _front(drawing, [point for name in front for point in points if point.row.name == name])
    outstanding = (report.baseline, report.rows[-1].name)
    for point in sorted(points, key=lambda point: (point.row.name in outstanding, point.row.name in front)):
        _mark(drawing, report, point, in_front=point.row.name in front, many=len(points) > _MANY)
    named = {row.name for row in notable(report, rows, NAMED)}
    _names(drawing, points, [point for point in points if point.row.name in named], left)
    return drawing.render()


def _latency(row: ReportRow) -> LatencyCell | None:
    cell = figures.headline_latency(row)
    return cell if cell is not None and cell.low > 0 else None


def _axes(drawing: Drawing, rows: list[ReportRow], metric: str | None) -> tuple[float, list[Point]]:
    factor = 100.0 if figures.in_percent(metric) else 1.0
    found = [(row, q, c) for row in rows if (q := figures.primary(row)) and (c := _latency(row))]
    low, high = padded([bound * factor for _, q, _ in found for bound in (q.low, q.high, q.value)])
    bottom, top, right = drawing.height - 2 * LINE - GAP, LINE + 2 * GAP, drawing.width - GAP
    y = Scale(low, high, bottom, top)
    left = max(text_width(figures.plain(tick)) for tick in y.ticks()) + GAP
    spans = [bound for _, _, c in found for bound in (min(c.low, c.p50_ms), max(c.high, c.p50_ms))]
    x = Scale(*padded_log(spans, 0.12), left, right, log=True)
    label = fitted(f"{metric or 'quality'}{', %' if factor == 100 else ''}", drawing.width)
    vertical_axis(drawing, y, left=left, right=right, label=label)
    horizontal_axis(drawing, x, top=bottom, bottom=bottom, label="median latency, ms")
    return left, [
        Point(row, q, c, x(c.p50_ms), y(q.value * factor), x(c.low), x(c.high), y(q.high * factor), y(q.low * factor))
        for row, q, c in found
    ]  # fmt: skip


def _front(drawing: Drawing, front: list[Point]) -> None:
    """A staircase: what lies below or right of it is beaten in both."""
    if len(front) > 1:
        steps = [(front[0].x, front[0].y)]
        for before, point in pairwise(front):
            steps += [(point.x, before.y), (point.x, point.y)]
        drawing.path(steps, "front")


def _mark(drawing: Drawing, report: Report, point: Point, *, in_front: bool, many: bool) -> None:
    kind = "base" if point.row.name == report.baseline else "s1" if in_front else "beaten"
    last = point.row.name == report.rows[-1].name
    faint = " faint" if many and kind != "base" and not last else ""
    drawing.line(point.x, point.top, point.x, point.bottom, f"whisker {kind}{faint}")
    drawing.line(point.left, point.y, point.right, point.y, f"whisker {kind}{faint}")
    if last:
        drawing.dot(point.x, point.y, f"ring {kind}", radius=7.5)
    quality = figures.metric_text(point.quality, point.row.primary_metric)
    tip = f"{point.row.name}: {quality}, {figures.milliseconds(point.cell.p50_ms)} ms"
    drawing.dot(point.x, point.y, f"mark fill {kind}", tip, radius=3 if many else 4.5)


Box = tuple[float, float, float, float]  # left, top, right, bottom


def _names(drawing: Drawing, points: list[Point], named: list[Point], left: float) -> None:
    """Each name where it covers least: never another name, seldom a point or an interval."""
    placed: list[Box] = []
    marks = [(p.x - 6, p.y - 6, p.x + 6, p.y + 6) for p in points]
    whiskers = [(p.x - 1, p.top, p.x + 1, p.bottom) for p in points]
    whiskers += [(p.left, p.y - 1, p.right, p.y + 1) for p in points]
    for point in named:
        text = fitted(point.row.name, drawing.width / 3)
        choices: list[tuple[int, int, str, float, float, Box]] = []
        for anchor, x, y in _places(point):
            box = _box(text, anchor, x, y)
            if box[0] < left or box[2] > drawing.width or box[1] < LINE or any(_meet(box, o) for o in placed):
                continue
            covered = 5 * sum(_meet(box, o) for o in marks) + sum(_meet(box, o) for o in whiskers)
            choices.append((covered, len(choices), anchor, x, y, box))
        if choices:
            _, _, anchor, x, y, box = min(choices)
            placed.append(box)
            drawing.text(x, y, text, anchor=anchor, kind="name")


def _places(point: Point) -> list[tuple[str, float, float]]:
    """Where a point's name may stand, the best first: anchor and the start of its baseline."""
    x, y = point.x, point.y
    places = [
        ("start", x + 8, y - 7),
        ("end", x - 8, y - 7),
        ("start", x + 8, y + 15),
        ("end", x - 8, y + 15),
    ]
    places += [("start", x + 9, y + 4), ("end", x - 9, y + 4)]
    for away in (2, 3, 4):
        places += [("start", x + 8, y - 7 - 6 * away), ("end", x - 8, y - 7 - 6 * away)]
        places += [("start", x + 8, y + 15 + 6 * away), ("end", x - 8, y + 15 + 6 * away)]
    return places


def _box(text: str, anchor: str, x: float, y: float) -> Box:
    width = text_width(text)
    left = x if anchor == "start" else x - width
    return (left - 1, y - FONT + 1, left + width + 1, y + 3)


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]

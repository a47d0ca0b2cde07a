"""Latency against length and against batch size, a line for each row."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from compressbert.report import figures
from compressbert.report.plots import frame
from compressbert.report.plots.frame import GAP, NARROW
from compressbert.report.selection import notable
from compressbert.report.svg import FONT, LINE, Drawing, Scale, fitted, padded_log, text_width
from compressbert.results.record import LatencyCell
from compressbert.results.report import Report, ReportRow

SHOWN = 7
_HEIGHT = 230.0

Line = dict[int, tuple[float, float, float]]  # tokens or texts -> milliseconds: median and its bounds


def against_length(report: Report, width: float = NARROW) -> tuple[str, str] | None:
    """SVG of latency against length, and at which batch size: the one timed at most lengths."""
    batch = _richest((cell.batch, cell.length) for cell in _cells(report))
    if batch is None:
        return None
    lines = _lines(report, lambda cell: cell.length if cell.batch == batch else None, per_text=False)
    svg = _draw(
        report, lines, width, name="length", title="Latency against length", of="tokens", unit="ms a call"
    )
    return svg, f"Batch {batch}."


def against_batch(report: Report, width: float = NARROW) -> tuple[str, str] | None:
    """SVG of latency per text against batch size, and at which length: the one timed in most batches."""
    length = _richest((cell.length or 0, cell.batch) for cell in _cells(report))
    if length is None:
        return None
    lines = _lines(report, lambda cell: cell.batch if cell.length == length else None, per_text=True)
    svg = _draw(
        report,
        lines,
        width,
        name="batch",
        title="Latency against batch",
        of="texts in a batch",
        unit="ms a text",
    )
    return svg, f"Length {length}."


def _cells(report: Report) -> list[LatencyCell]:
    """Cells of a fixed length."""
    return [cell for row in report.rows for cell in row.latency if cell.length is not None and cell.low > 0]


def _richest(pairs: Iterable[tuple[int, int | None]]) -> int | None:
    """The first member that comes with most different second ones; None if none comes with two."""
    seen: dict[int, set[int | None]] = {}
    for first, second in pairs:
        seen.setdefault(first, set()).add(second)
    best = max(seen, key=lambda first: (len(seen[first]), -first), default=None)
    return best if best is not None and len(seen[best]) > 1 else None


def _lines(
    report: Report, place: Callable[[LatencyCell], int | None], *, per_text: bool
) -> list[tuple[ReportRow, Line]]:
    found = []
    for row in report.rows:
        line: Line = {}
        for cell in row.latency:
            at, share = place(cell), cell.batch if per_text else 1
            if at is not None and cell.low > 0:
                line[at] = (cell.p50_ms / share, cell.low / share, cell.high / share)
        if line:
            found.append((row, line))
    kept = {row.name for row in notable(report, [row for row, _ in found], SHOWN)}
    return [(row, line) for row, line in found if row.name in kept]


def _draw(
    report: Report, lines: list[tuple[ReportRow, Line]], width: float, *, name: str, title: str, of: str, unit: str
) -> str:  # fmt: skip
    drawing = Drawing(
        f"{name}-{width:.0f}", width, _HEIGHT, title=title,
        description="; ".join(f"{row.name}: {_described(line)}" for row, line in lines),
    )  # fmt: skip
    places = sorted({at for _, line in lines for at in line})
    values = [value for _, line in lines for point in line.values() for value in point]
    top, bottom = LINE + 2 * GAP, _HEIGHT - 2 * LINE - GAP
    y = Scale(*padded_log(values), bottom, top, log=True)
    names = [fitted(row.name, width / 4) for row, _ in lines]
    left = max(text_width(figures.plain(tick)) for tick in y.ticks()) + GAP
    right = width - max(map(text_width, names)) - GAP
    x = Scale(places[0], places[-1], left + GAP, right - GAP, log=True)
    frame.vertical_axis(drawing, y, left=left, right=right, label=unit)
    frame.horizontal_axis(drawing, x, top=bottom, bottom=bottom, label=of, ticks=places)
    ends = [y(line[max(line)][0]) for _, line in lines]
    beside = frame.spread(ends, LINE - 1, top, bottom)
    for number, (row, line) in enumerate(lines):
        kind = frame.row_kind(report, row) if row.name == report.baseline else frame.kind_of(number)
        drawing.path([(x(at), y(line[at][0])) for at in sorted(line)], f"curve {kind}")
        for at, (value, low, high) in sorted(line.items()):
            drawing.line(x(at), y(low), x(at), y(high), f"whisker {kind}")
            tip = f"{row.name}, {at} {of}: {figures.milliseconds(value)} {unit}"
            drawing.dot(x(at), y(value), f"mark fill {kind}", tip, 3)
        drawing.line(right - GAP + 3, ends[number], right - 2, beside[number], f"leader {kind}")
        drawing.text(right, beside[number] + FONT / 3, names[number])
    return drawing.render()


def _described(line: Line) -> str:
    return ", ".join(f"{figures.milliseconds(line[at][0])} at {at}" for at in sorted(line))

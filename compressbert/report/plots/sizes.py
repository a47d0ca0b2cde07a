"""Bytes on disk by component, a stacked bar for each row."""

from __future__ import annotations

from compressbert.report import figures
from compressbert.report.plots import frame
from compressbert.report.plots.frame import GAP, NARROW
from compressbert.report.rows import components_of
from compressbert.report.selection import notable
from compressbert.report.svg import FONT, LINE, Drawing, Scale, text_width
from compressbert.results.report import Report

SHOWN = 16
_BAND, _BAR = 22.0, 13.0


def draw(report: Report, width: float = NARROW) -> str | None:
    """SVG of megabytes on disk by component."""
    rows = notable(report, [row for row in report.rows if row.bytes_by_component], SHOWN)
    if not rows:
        return None
    components = components_of(rows)
    entries = [(name, frame.kind_of(index)) for index, name in enumerate(components)]
    top = frame.legend_height(entries, width)
    bottom = top + _BAND * len(rows)
    totals = {row.name: sum(row.bytes_by_component.values()) for row in rows}
    drawing = Drawing(
        f"sizes-{width:.0f}", width, bottom + 2 * LINE + GAP, title="Bytes by component",
        description="; ".join(f"{name} {figures.megabytes(total)} MB" for name, total in totals.items()),
    )  # fmt: skip
    frame.legend(drawing, entries)
    left = frame.gutter([row.name for row in rows], width)
    room = max(text_width(figures.megabytes(total)) for total in totals.values()) + GAP
    scale = Scale(0, max(*totals.values(), 1) / 1e6, left, width - room)
    frame.horizontal_axis(drawing, scale, top=top, bottom=bottom, label="megabytes on disk")
    for index, row in enumerate(rows):
        middle = top + _BAND * (index + 0.5)
        frame.row_name(drawing, row.name, left, middle)
        start = 0.0
        for name, kind in entries:
            size = row.bytes_by_component.get(name, 0) / 1e6
            tip = f"{row.name}, {name}: {figures.megabytes(round(size * 1e6))} MB"
            if size:
                x = scale(start)
                drawing.bar(x, middle - _BAR / 2, scale(start + size) - x, _BAR, f"mark fill {kind}", tip)
            start += size
        drawing.text(scale(start) + 5, middle + FONT / 3, figures.megabytes(totals[row.name]))
    return drawing.render()

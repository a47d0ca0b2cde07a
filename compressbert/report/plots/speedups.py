"""The speed-up of each row in every latency cell, with intervals."""

from __future__ import annotations

from compressbert.report import figures
from compressbert.report.plots import frame
from compressbert.report.plots.frame import GAP, NARROW
from compressbert.report.selection import notable
from compressbert.report.svg import LINE, Drawing, Scale, padded_log
from compressbert.results.report import Report

SHOWN = 16


def draw(report: Report, width: float = NARROW) -> str | None:
    """SVG of the speed-up by cell on a logarithmic scale; the baseline is the line at 1."""
    rows = notable(report, [row for row in report.rows if row.speedup_by_cell], SHOWN)
    if not rows:
        return None
    cells = figures.cells_of(report)
    entries = [(figures.cell_label(cell), frame.kind_of(index)) for index, cell in enumerate(cells)]
    top = frame.legend_height(entries, width)
    band = 9.0 * len(cells) + 13
    bottom = top + band * len(rows)
    drawing = Drawing(
        f"speedups-{width:.0f}", width, bottom + 2 * LINE + GAP, title="Speed-up by shape",
        description="; ".join(f"{row.name} {figures.times_interval(row.speedup)}" for row in rows),
    )  # fmt: skip
    frame.legend(drawing, entries)
    bounds = [
        value for row in rows for r in row.speedup_by_cell.values() for value in (r.low, r.high, r.value)
    ]
    left = frame.gutter([row.name for row in rows], width)
    scale = Scale(*padded_log([1.0, *(value for value in bounds if value > 0)]), left, width - GAP, log=True)
    frame.horizontal_axis(drawing, scale, top=top, bottom=bottom, label="times the baseline's speed")
    drawing.line(scale(1), top, scale(1), bottom, "rule")
    for index, row in enumerate(rows):
        middle = top + band * (index + 0.5)
        frame.row_name(drawing, row.name, left, middle)
        for place, (cell, (label, kind)) in enumerate(zip(cells, entries, strict=True)):
            ratio = row.speedup_by_cell.get(cell)
            if ratio is None or ratio.low <= 0:
                continue
            y = middle + 9.0 * (place - (len(cells) - 1) / 2)
            frame.whisker(drawing, scale, ratio, y, kind)
            tip = f"{row.name}, {label}: {figures.times_interval(ratio)}"
            drawing.dot(scale(ratio.value), y, f"mark fill {kind}", tip, 3.2)
    return drawing.render()

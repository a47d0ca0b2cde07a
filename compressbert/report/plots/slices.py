"""What the last row lost on each slice of the data, with intervals."""

from __future__ import annotations

from compressbert.report import figures
from compressbert.report.plots import frame
from compressbert.report.plots.frame import GAP, NARROW
from compressbert.report.svg import FONT, LINE, Drawing, Scale, padded, text_width
from compressbert.results.report import Report

SHOWN = 20
_BAND = 20.0


def draw(report: Report, width: float = NARROW) -> str | None:
    """SVG of the points lost by slice, those that lost most first; None where nothing was sliced."""
    last = report.rows[-1]
    slices = sorted(last.slices, key=lambda part: (not part.worse, -part.drop.value))[:SHOWN]
    if not slices:
        return None
    factor = 100.0 if figures.in_percent(last.primary_metric) else 1.0
    bottom = _BAND * len(slices)
    named = ", ".join(part.name for part in slices if part.worse) or "none"
    drawing = Drawing(
        f"slices-{width:.0f}", width, bottom + 2 * LINE + GAP, title="Lost by slice",
        description=f"Slices that lost significantly more than the rest: {named}.",
    )  # fmt: skip
    left = frame.gutter([part.name for part in slices], width)
    counts = [f"{part.examples:,}" for part in slices]
    right = width - max(map(text_width, counts)) - 2 * GAP
    bounds = [v * factor for part in slices for v in (part.drop.low, part.drop.high, part.drop.value)]
    whole = last.quality_drop.value * factor if last.quality_drop else 0.0
    scale = Scale(*padded([0.0, whole, *bounds], 0.04), left, right)
    unit = "points" if factor == 100 else last.primary_metric or "metric"
    frame.horizontal_axis(drawing, scale, top=0, bottom=bottom, label=f"{unit} lost; rows at the right")
    drawing.line(scale(0), 0, scale(0), bottom, "rule")
    drawing.line(scale(whole), 0, scale(whole), bottom, "rule dashed")
    for index, (part, count) in enumerate(zip(slices, counts, strict=True)):
        y = _BAND * (index + 0.5)
        kind = "lost" if part.worse else "s1"
        frame.row_name(drawing, part.name, left, y)
        frame.whisker(drawing, scale, part.drop, y, kind, factor=factor)
        tip = f"{part.name}: {part.drop.value * factor:.1f} {figures.bounds(part.drop, scale=factor)}"
        drawing.dot(scale(part.drop.value * factor), y, f"mark fill {kind}", tip)
        drawing.text(width, y + FONT / 3, count, anchor="end", kind="soft")
    return drawing.render()

"""What the plots share: axes with their grid, names of rows in a gutter, a legend, intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from compressbert.report import figures
from compressbert.report.svg import FONT, LINE, Drawing, Scale, fitted, text_width
from compressbert.results.record import Interval
from compressbert.results.report import Report, ReportRow

NARROW = 344.0  # a phone's width, and a third of the page's
WIDE = 720.0
SERIES = 6  # colours the page defines
GAP = 8.0


def kind_of(number: int) -> str:
    """CSS class of the ``number``-th series."""
    return f"s{number % SERIES + 1}"


def row_kind(report: Report, row: ReportRow) -> str:
    """CSS class of a row where rows are not told apart by colour: the baseline stands out."""
    return "base" if row.name == report.baseline else "s1"


def gutter(names: Sequence[str], width: float) -> float:
    """Room for names at the left: what they need, at most a third of ``width``."""
    return min(max(map(text_width, names), default=0.0), width / 3) + GAP


def row_name(drawing: Drawing, name: str, gutter: float, middle: float) -> None:
    """A row's name, flush right in the gutter, centred on ``middle``."""
    drawing.text(gutter - GAP, middle + FONT / 3, fitted(name, gutter - GAP), anchor="end")


def horizontal_axis(
    drawing: Drawing, scale: Scale, *, top: float, bottom: float, label: str,
    ticks: Sequence[float] | None = None, shown: Callable[[float], str] = figures.plain,
) -> None:  # fmt: skip
    """Grid lines from ``top`` to ``bottom``, their numbers below, and what they count below those."""
    free_from = float("-inf")
    for tick in ticks if ticks is not None else scale.ticks(5 if drawing.width < 500 else 8):
        x, text = scale(tick), shown(tick)
        half = text_width(text) / 2
        drawing.line(x, top, x, bottom, "grid")
        x = min(max(x, half), drawing.width - half)
        if x - half > free_from:
            drawing.text(x, bottom + LINE, text, anchor="middle", kind="soft")
            free_from = x + half + 4
    drawing.text((scale.start + scale.end) / 2, bottom + 2 * LINE + 3, label, anchor="middle", kind="soft")


def vertical_axis(
    drawing: Drawing, scale: Scale, *, left: float, right: float, label: str,
    ticks: Sequence[float] | None = None, shown: Callable[[float], str] = figures.plain,
) -> None:  # fmt: skip
    """Grid lines from ``left`` to ``right``, their numbers at the left, and what they count above."""
    for tick in ticks if ticks is not None else scale.ticks(5):
        y = scale(tick)
        drawing.line(left, y, right, y, "grid")
        drawing.text(left - GAP, y + FONT / 3, shown(tick), anchor="end", kind="soft")
    drawing.text(0, FONT, label, kind="soft")


def legend(drawing: Drawing, entries: Sequence[tuple[str, str]], left: float = 0.0) -> float:
    """Swatches with their names from the top, wrapped; the height used is returned."""
    x, y = left, FONT
    for name, kind in entries:
        shown = fitted(name, drawing.width - left - 16)
        needed = 14 + text_width(shown)
        if x > left and x + needed > drawing.width:
            x, y = left, y + LINE + 2
        drawing.bar(x, y - 8.5, 9, 9, f"fill {kind}")
        drawing.text(x + 14, y, shown)
        x += needed + 10
    return y + GAP


def legend_height(entries: Sequence[tuple[str, str]], width: float, left: float = 0.0) -> float:
    """The height `legend` will use."""
    return legend(Drawing("", width, 0, title="", description=""), entries, left)


def whisker(
    drawing: Drawing, scale: Scale, found: Interval, y: float, kind: str, *, factor: float = 1.0
) -> None:
    """An interval as a horizontal line at ``y``."""
    drawing.line(scale(found.low * factor), y, scale(found.high * factor), y, f"whisker {kind}")


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places near the ``wanted`` ones that lie at least ``gap`` apart within ``low`` to ``high``, in the same order."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    places = [0.0] * len(wanted)
    at = low - gap
    for index in order:
        at = places[index] = max(wanted[index], at + gap)
    at = high + gap
    for index in reversed(order):
        at = places[index] = min(places[index], at - gap)
    return places

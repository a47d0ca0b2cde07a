"""The report's plots as inline SVG that takes its colours from the page, so that one file serves light and
dark.

matplotlib draws in placeholder colours which are replaced by CSS: ``currentColor`` and the page's
variables. Text stays text (escaped by matplotlib), ids are prefixed so that several plots share a page, and
no date is written: the same report gives the same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from compressbert.report import figures
from compressbert.report.rows import components_of
from compressbert.results.record import Interval, Report, ReportRow

_WIDTH = 5.2  # inches: at 72 units an inch, text of 8.5 units stays readable on a phone
_INK, _FAINT = "#010101", "#010102"
_SERIES = tuple(f"#0101{number:02x}" for number in range(16, 22))
_CSS = {_INK: "currentColor", _FAINT: "var(--line)"} | {
    color: f"var(--series-{number})" for number, color in enumerate(_SERIES, start=1)
}
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 8.5,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 8.5,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "grid.color": _FAINT,
    "grid.linewidth": 0.5,
    "text.parse_math": False,
}


def quality_against_latency(report: Report) -> str | None:
    """SVG of the primary metric against median latency with both intervals; None where no row has both."""
    points = [
        (row, quality, cell)
        for row in report.rows
        if (quality := figures.primary(row)) is not None
        and (cell := figures.headline_latency(row)) is not None
    ]
    if not points:
        return None
    metric = points[0][0].primary_metric
    scale = 100.0 if figures.in_percent(metric) else 1.0
    with mpl.rc_context({**_STYLE, "svg.hashsalt": "quality"}):
        figure, axes = _canvas(3.4)
        points.sort(key=lambda point: point[2].p50_ms)
        for number, (row, quality, cell) in enumerate(points):
            color = _INK if row.name == report.baseline else _SERIES[0]
            y = quality.value * scale
            axes.errorbar(
                cell.p50_ms, y, xerr=_bars(Interval(value=cell.p50_ms, low=cell.low, high=cell.high)),
                yerr=_bars(quality, scale), fmt="o", markersize=5, color=color, elinewidth=1, capsize=0,
            )  # fmt: skip
            crowded = number + 1 < len(points) and points[number + 1][2].p50_ms < 1.4 * cell.p50_ms
            axes.annotate(  # away from the neighbour on the right, if there is one
                _short(row.name),
                (cell.p50_ms, y),
                xytext=(-6 if crowded else 6, 5 if number % 2 == 0 else -5),
                textcoords="offset points",
                ha="right" if crowded else "left",
                va="bottom" if number % 2 == 0 else "top",
            )
        _log_axis(axes, [cell.p50_ms for _, _, cell in points])
        axes.margins(x=0.22, y=0.12)
        axes.set_xlabel("median latency, ms (log scale)")
        axes.set_ylabel(f"{_short(metric or 'quality')}{', %' if scale == 100 else ''}")
        axes.grid(axis="y")
        return _svg(figure, "quality")


def bytes_by_component(report: Report) -> str | None:
    """SVG of stacked bars, one per row: megabytes on disk by component; None where no row has them."""
    rows = [row for row in report.rows if row.bytes_by_component]
    if not rows:
        return None
    components = components_of(rows)
    with mpl.rc_context({**_STYLE, "svg.hashsalt": "bytes"}):
        figure, axes = _canvas(0.95 + 0.34 * len(rows))
        places = list(range(len(rows)))
        left = [0.0] * len(rows)
        for number, component in enumerate(components):
            sizes = [row.bytes_by_component.get(component, 0) / 1e6 for row in rows]
            color = _SERIES[number % len(_SERIES)]
            axes.barh(places, sizes, left=left, height=0.62, color=color, label=_short(component))
            left = [start + size for start, size in zip(left, sizes, strict=True)]
        for place, total in zip(places, left, strict=True):
            axes.annotate(
                f"{total:.1f}", (total, place), xytext=(4, 0), textcoords="offset points", va="center"
            )
        axes.margins(x=0.12)
        _rows_axis(axes, rows)
        axes.set_xlabel("megabytes on disk")
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=len(components), frameon=False, borderpad=0,
            handlelength=0.9, handleheight=0.9, columnspacing=1.2, handletextpad=0.5,
        )  # fmt: skip
        return _svg(figure, "bytes")


def speedups(report: Report) -> str | None:
    """SVG of the speed-up in every latency cell with intervals; None where none was measured."""
    rows = [row for row in report.rows if row.speedup_by_cell]
    if not rows:
        return None
    cells = figures.cells_of(report)
    with mpl.rc_context({**_STYLE, "svg.hashsalt": "speedups"}):
        figure, axes = _canvas(0.95 + 0.14 * len(rows) * (len(cells) + 1))
        for number, cell in enumerate(cells):
            offset = (number - (len(cells) - 1) / 2) * 0.7 / max(len(cells), 1)
            found = [
                (place, row.speedup_by_cell[cell])
                for place, row in enumerate(rows)
                if cell in row.speedup_by_cell
            ]
            for first, (place, ratio) in enumerate(found):
                axes.errorbar(
                    ratio.value,
                    place + offset,
                    xerr=_bars(ratio),
                    fmt="o",
                    markersize=4,
                    elinewidth=1.2,
                    color=_SERIES[number % len(_SERIES)],
                    label=_short(figures.cell_label(cell)) if first == 0 else None,
                )
        axes.axvline(1, color=_INK, linewidth=0.8, dashes=(2, 2))
        _rows_axis(axes, rows)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.set_xlabel("times the baseline's speed")
        axes.grid(axis="x")
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=len(cells), frameon=False, borderpad=0,
            columnspacing=1.2, handletextpad=0.2,
        )  # fmt: skip
        return _svg(figure, "speedups")


def _canvas(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, pad=4)
    return figure, axes


def _bars(found: Interval, scale: float = 1.0) -> list[list[float]]:
    """Lengths below and above the value; a median may lie a hair outside its bootstrap interval."""
    return [[max(0.0, found.value - found.low) * scale], [max(0.0, found.high - found.value) * scale]]


def _log_axis(axes: Axes, values: Sequence[float]) -> None:
    """A log axis with plain numbers on it, however few decades it spans."""
    axes.set_xscale("log")
    wide = max(values) / min(values) > 20
    shown = FuncFormatter(lambda value, _: figures.plain(value))
    axes.xaxis.set_major_formatter(shown)
    axes.xaxis.set_minor_formatter(
        NullFormatter()
        if wide
        else FuncFormatter(lambda value, _: figures.plain(value) if _leading(value) in "235" else "")
    )


def _leading(value: float) -> str:
    return f"{value:e}"[0]


def _rows_axis(axes: Axes, rows: Sequence[ReportRow]) -> None:
    axes.set_yticks(range(len(rows)), [_short(row.name) for row in rows])
    axes.invert_yaxis()
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def _short(name: str) -> str:
    return name if len(name) <= 20 else f"{name[:19]}…"


def _svg(figure: Figure, prefix: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = (
        re.sub(r'\s(?:xmlns(?::\w+)?|width|height|version)="[^"]*"', "", text[: text.index(">")])
        + text[text.index(">") :]
    )
    text = re.sub(r'(\sid="|xlink:href="#|url\(#)', rf"\g<1>{prefix}-", text).replace("xlink:href", "href")
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)  # the page's own font
    for placeholder, css in _CSS.items():
        text = text.replace(placeholder, css)
    return text.replace("<svg", '<svg role="img"', 1).strip()

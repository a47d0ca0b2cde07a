"""The page's plots by the place they stand in, with their captions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from markupsafe import Markup

from compressbert.report.plots import chain, latency, sizes, slices, speedups, tradeoff, training
from compressbert.report.plots.frame import WIDE
from compressbert.report.selection import notable
from compressbert.results.report import Report, ReportRow

HEAT_ROWS = 24
_TRADEOFF = (
    "Bars are 95 % intervals; up and to the left is better. No row is both faster and better than a blue one "
    "(the dashed Pareto front); the baseline has the colour of the text, and the last row a ring."
)
_CHAIN = "What each step lost (red) or gained (green); the bar is the interval of the difference from the baseline."
_SPEEDUPS = "Batch × length, and the data's own lengths one text at a time. Bars are 95 % intervals."


@dataclass(frozen=True)
class Drawn:
    """A plot on the page; ``broad`` is its form where there is room."""

    title: str
    svg: Markup
    note: str = ""
    broad: Markup | None = None


@dataclass(frozen=True)
class HeatMap:
    """What each layer kept: per row the counts, each with its share of the fullest layer."""

    title: str
    depth: int
    rows: tuple[tuple[ReportRow, tuple[tuple[int, float], ...]], ...]


@dataclass(frozen=True)
class Gallery:
    """All plots of a report; an empty place means that its figures were not measured."""

    overview: list[Drawn] = field(default_factory=list)
    chain: list[Drawn] = field(default_factory=list)
    slices: list[Drawn] = field(default_factory=list)
    speed: list[Drawn] = field(default_factory=list)
    survived: list[HeatMap] = field(default_factory=list)
    training: list[Drawn] = field(default_factory=list)


def gallery(report: Report) -> Gallery:
    """Draw everything there is. The drawings' own texts are escaped, so they go on the page as they are."""

    def drawn(title: str, draw: Callable[[Report], str | None], note: str = "") -> list[Drawn]:
        svg = draw(report)
        return [] if svg is None else [Drawn(title, Markup(svg), note)]

    last = report.rows[-1]
    return Gallery(
        overview=_tradeoff(report)
        + drawn("Bytes by component", sizes.draw, "The files needed to run, tokenizer apart."),
        chain=drawn("Quality", chain.quality, _CHAIN)
        + drawn("Latency", chain.latency, "Pale: what the step took away.")
        + drawn("Size", chain.size, "Pale: what the step took away."),
        slices=drawn(
            "Lost by slice", slices.draw, f"{last.name} against {report.baseline}; dashed: on all rows."
        ),
        speed=drawn("Speed-up by shape", speedups.draw, _SPEEDUPS) + _shapes(report),
        survived=_survived(report),
        training=[Drawn(name, Markup(svg)) for name, svg in training.draw(report)],
    )


def _tradeoff(report: Report) -> list[Drawn]:
    slim, broad = tradeoff.draw(report), tradeoff.draw(report, WIDE)
    if slim is None or broad is None:
        return []
    return [Drawn("Quality against latency", Markup(slim), _TRADEOFF, Markup(broad))]


def _shapes(report: Report) -> list[Drawn]:
    found = (
        ("Latency against length", latency.against_length(report)),
        ("Latency against batch", latency.against_batch(report)),
    )
    return [Drawn(title, Markup(plot[0]), plot[1]) for title, plot in found if plot is not None]


def _survived(report: Report) -> list[HeatMap]:
    maps = []
    for title, counts in (
        ("Heads kept per layer", {row.name: row.heads_per_layer for row in report.rows}),
        ("FFN neurons kept per layer", {row.name: row.ffn_per_layer for row in report.rows}),
    ):
        most = max((count for kept in counts.values() for count in kept), default=0)
        shown = notable(report, [row for row in report.rows if counts[row.name]], HEAT_ROWS)
        rows = tuple(
            (row, tuple((count, count / most if most else 0.0) for count in counts[row.name]))
            for row in shown
        )
        if rows:
            maps.append(HeatMap(title, max(len(cells) for _, cells in rows), rows))
    return maps

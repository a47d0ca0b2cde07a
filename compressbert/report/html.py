"""A report as one self-contained HTML file: style and plots inside, nothing fetched, light and dark."""

from __future__ import annotations

from functools import cache

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from compressbert.report import figures, plots
from compressbert.results.record import Report, ReportRow

_VERDICTS = {"pass": "pass", "fail": "fail", "cannot-tell": "cannot tell"}
_PLOTS = (
    (
        "Quality against latency",
        plots.quality_against_latency,
        "Bars are 95 % intervals. Up and to the left is better.",
    ),
    ("Bytes by component", plots.bytes_by_component, "The files needed to run, tokenizer apart."),
    (
        "Speed-up by shape",
        plots.speedups,
        "Batch × length, and one sentence at a time of the data's own lengths.",
    ),
)


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("compressbert.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["f"] = figures
    return environment.get_template("report.html.j2")


def render(report: Report) -> str:
    """The whole report as one HTML page. Every text is escaped."""
    drawn = [(title, draw(report), note) for title, draw, note in _PLOTS]
    return _template().render(
        report=report,
        summary=figures.summary(report),
        metric=next((row.primary_metric for row in report.rows if row.primary_metric), None),
        rows=report.rows,
        last=report.rows[-1],
        # matplotlib escapes the text it draws, and the rest of the SVG is our own
        plots=[(title, Markup(svg), note) for title, svg, note in drawn if svg is not None],
        survived=_survived(report),
        verdicts=_VERDICTS,
        settings=yaml.safe_dump(report.config, sort_keys=False, allow_unicode=True)
        if report.config
        else None,
    )


def _survived(report: Report) -> list[tuple[str, list[tuple[ReportRow, list[tuple[int, float]]]]]]:
    """What each layer kept, for the heat maps: title, then per row (count, share of the fullest layer)."""
    maps = []
    for title, counts in (
        ("Heads kept per layer", {row.name: row.heads_per_layer for row in report.rows}),
        ("FFN neurons kept per layer", {row.name: row.ffn_per_layer for row in report.rows}),
    ):
        most = max((count for kept in counts.values() for count in kept), default=0)
        rows = [
            (row, [(count, count / most if most else 0.0) for count in counts[row.name]])
            for row in report.rows
            if counts[row.name]
        ]
        if rows:
            maps.append((title, rows))
    return maps

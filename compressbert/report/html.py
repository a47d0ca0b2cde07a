"""A report as one self-contained HTML file: style and plots inside, nothing fetched, light and dark."""

from __future__ import annotations

from functools import cache
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from compressbert.report import figures, tables
from compressbert.report.gallery import Gallery, gallery
from compressbert.results.report import Report, ReportRow

FLIPS_OF = 12  # more rows than this, and only the last row's flips are listed


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("compressbert.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"f": figures, "t": tables}
    return environment.get_template(name)


def page(name: str, **context: Any) -> str:
    """The template ``name``, filled in. Every text is escaped."""
    return _template(name).render(**context)


def render(report: Report) -> str:
    """The whole report as one HTML page."""
    rows, last = report.rows, report.rows[-1]
    flipped = [row for row in rows if row.worst_flips]
    timed = next((figures.headline_latency(row) for row in rows if row.latency), None)
    settings = yaml.safe_dump(report.config, sort_keys=False, allow_unicode=True) if report.config else None
    drawn = gallery(report)
    sections = _sections(report, drawn)
    return page(
        "report.html.j2",
        report=report,
        plots=drawn,
        sections=sections,
        places=[place for place, _ in sections],
        summary=figures.summary(report).replace(
            " %", "\u00a0%"
        ),  # no line ends between a figure and its unit
        metric=tables.metric_of(report),
        last=last,
        headline_figures=_headline(last),
        seeds=any(row.seeds for row in rows),
        flips=flipped if len(rows) <= FLIPS_OF else [row for row in flipped if row is last],
        flips_left_out=len(rows) > FLIPS_OF and len(flipped) > 1,
        headline=figures.name_of(timed) if timed else "",
        threads=timed.threads if timed else 1,
        settings=settings,
    )


def _headline(last: ReportRow) -> list[tuple[str, tables.Cell]]:
    """The last row's figures in large type."""
    smaller = last.compression is not None and last.compression > 1.005
    size = figures.megabytes(last.bytes_on_disk)
    found = [
        (tables.heading(last.primary_metric or "quality"), tables.scaled(figures.primary(last), last.primary_metric)),
        ("retained, %", tables.scaled(last.retained, "retained")),
        ("speed-up", tables.ratio(last.speedup)),
        ("on disk, MB", tables.Cell(size, f"{figures.times(last.compression)} smaller" if smaller else "")),
        ("peak memory, MB", tables.plain(figures.memory(last))),
    ]  # fmt: skip
    return [(name, cell) for name, cell in found if cell is not None and cell.text != figures.ABSENT]


def _sections(report: Report, drawn: Gallery) -> list[tuple[str, str]]:
    """The sections that have something to show: id and name."""
    flips = any(row.worst_flips for row in report.rows)
    present = {
        "Gates": report.gates,
        "Results": True,
        "Quality": any(
            (tables.claims(report), tables.scores(report), tables.portability(report), drawn.slices, flips)
        ),
        "Speed": any(row.latency for row in report.rows) or report.conditions,
        "Size": tables.sizes(report),
        "Training": drawn.training,
        "Environment": True,
    }
    return [(name.lower(), name) for name, there in present.items() if there]

"""A report as Markdown, for a repository, a pull request or a job's summary."""

from __future__ import annotations

import json
from collections.abc import Sequence

from compressbert.report import figures, tables
from compressbert.report.tables import Cell, Line, Table
from compressbert.results.report import Report, ReportRow

MARKS = {
    "pass": "✓ ", "yes": "✓ ", "better": "✓ ", "fail": "✗ ", "no": "✗ ", "worse": "✗ ", "cannot-tell": "? ",
    "unchanged": "= ",
}  # fmt: skip
_FLIPS = 20


def render(report: Report) -> str:
    """The whole report as GitHub-flavoured Markdown, ending in a newline."""
    last = report.rows[-1]
    said = figures.noninferiority_text(report, last)
    parts = [f"# {escape(report.title)}", escape(figures.summary(report)), *([escape(said)] if said else [])]
    parts += [f"> {escape(text)}" for text in report.notes]
    parts += [table_of(tables.results(report)), _RESULTS_NOTE]
    for heading, found in (
        ("The survey's figures", tables.survey(report)),
        ("Step by step", tables.steps(report)),
        ("Quality", tables.claims(report)),
        ("All metrics", tables.scores(report)),
        ("On CPUs without VNNI", tables.portability(report)),
    ):
        parts += [f"## {heading}", table_of(found)] if found else []
    parts += _slices(last) + _flips(report)
    for heading, found in (
        ("Speed-up by shape", tables.speedups(report)),
        ("Latency", tables.latencies(report)),
        ("Size", tables.sizes(report)),
        ("Gates", tables.gates(report)),
    ):
        parts += [f"## {heading}", table_of(found)] if found else []
    parts += ["## Environment", *_conditions(report), _environment(report), *_settings(report)]
    return "\n\n".join(parts) + "\n"


_RESULTS_NOTE = (
    "Brackets hold 95 % intervals; ratios are against the baseline; p50 is the median latency of a call."
)


def escape(text: str) -> str:
    """Text that Markdown shows as it stands, in a table cell too."""
    for mark in "\\`*_[]|#":
        text = text.replace(mark, "\\" + mark)
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())


def fenced(text: str, language: str) -> str:
    """A block of code that its own backticks cannot end."""
    fence = "`" * max(3, _longest_run(text, "`") + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, textual: Sequence[bool]) -> str:
    """A Markdown table of finished cells; textual columns are flushed left, figures right."""
    lines = [headings, ["---" if text else "---:" for text in textual], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def table_of(found: Table) -> str:
    """A report's table as Markdown."""
    headings = [found.first, *found.headings]
    lines = [[_name(line), *map(_cell, line.cells)] for line in found.lines]
    return table([escape(heading) for heading in headings], lines, textual=(True, *found.textual))


def _name(line: Line) -> str:
    return f"**{escape(line.name)}**" + (f" ({escape(line.beside)})" if line.beside else "")


def _cell(cell: Cell) -> str:
    text = MARKS.get(cell.verdict, "") + escape(cell.text)
    # brackets after a figure cannot start a link: nothing in parentheses follows
    return f"{text} {cell.beside if cell.beside.startswith('[') else escape(cell.beside)}".strip()


def _slices(last: ReportRow) -> list[str]:
    if not last.slices:
        return []
    ordered = sorted(last.slices, key=lambda part: (not part.worse, -part.drop.value))
    metric = last.primary_metric
    lines = [
        [
            escape(part.name), f"{part.examples:,}", figures.lost_text(part.drop, metric),
            "✗ more than the rest" if part.worse else "",
        ]
        for part in ordered
    ]  # fmt: skip
    headings = ["slice", "rows", "lost", ""]
    return ["## Slices", table(headings, lines, textual=(True, False, False, True))]


def _flips(report: Report) -> list[str]:
    last = report.rows[-1]
    if not last.worst_flips:
        return []
    lines = [
        [
            str(flip.row),
            escape(figures.shortened(" / ".join(filter(None, (flip.text, flip.text_pair))), 200)),
            escape(flip.label if flip.label is not None else figures.ABSENT),
            f"{escape(flip.baseline)} ({flip.baseline_margin:.2f})",
            f"{escape(flip.candidate)} ({flip.candidate_margin:.2f})",
        ]
        for flip in last.worst_flips[:_FLIPS]
    ]
    headings = ["row", "text", "label", escape(report.baseline), escape(last.name)]
    of = "" if last.flips is None else f" of {last.flips}"
    summary = f"<summary>Predictions that changed: {len(lines)}{of}, the surest first</summary>"
    body = table(headings, lines, textual=(False, True, True, True, True))
    return [f"<details>{summary}\n\n{body}\n\n</details>"]


def _conditions(report: Report) -> list[str]:
    if report.conditions is None:
        return []
    told = figures.conditions(report.conditions)
    return ["\n".join(f"- {name}: {escape(text)}" for name, text in told)]


def _environment(report: Report) -> str:
    machine = report.environment
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    isa = f" ({', '.join(machine.isa)})" if machine.isa else ""
    return escape(f"{machine.cpu}{isa}, {machine.cores} cores · {versions}")


def _settings(report: Report) -> list[str]:
    if not report.config:
        return []
    settings = fenced(json.dumps(report.config, indent=2, ensure_ascii=False), "json")
    return [f"<details><summary>Settings</summary>\n\n{settings}\n\n</details>"]


def _longest_run(text: str, mark: str) -> int:
    longest = run = 0
    for character in text:
        run = run + 1 if character == mark else 0
        longest = max(longest, run)
    return longest

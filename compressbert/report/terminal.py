"""A report as tables in the terminal."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table as RichTable
from rich.text import Text

from compressbert.report import figures, tables
from compressbert.report.markdown import MARKS
from compressbert.report.tables import Cell, Line, Table
from compressbert.results.report import Report

WIDE = 112  # columns from which on an interval stands beside its value, and not below
_STYLES = {
    "pass": "green", "yes": "green", "better": "green", "fail": "bold red", "no": "bold red", "worse": "bold red",
    "cannot-tell": "yellow", "unchanged": "",
}  # fmt: skip


class ReportView:
    """A report as rich prints it: the rows, the verdicts of the gates, the summary.

    On a narrow terminal each interval stands below its value.
    """

    def __init__(self, report: Report) -> None:
        self._report = report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        report, narrow = self._report, options.max_width < WIDE
        yield Text(report.title, style="bold")
        yield table(tables.results(report, brief=True), narrow=narrow)
        yield Text()
        gates = tables.gates(report)
        if gates is not None:
            yield table(gates, narrow=narrow, headings=False)
            yield Text()
        yield Text(figures.summary(report))
        said = figures.noninferiority_text(report, report.rows[-1])
        if said:
            yield Text(said)
        for text in (*figures.worse_slices(report), *report.notes):
            yield Text(f"\n{text}", style="yellow")


def render(report: Report) -> RenderableType:
    """What rich prints of a report."""
    return ReportView(report)


def show(report: Report, console: Console) -> None:
    """Print a report."""
    console.print(render(report))


def table(found: Table, *, narrow: bool, headings: bool = True) -> RichTable:
    """A table as rich draws it; ``narrow`` puts intervals below their values."""
    gap, separator = (1, "\n") if narrow else (2, " ")
    made = RichTable(
        box=None, pad_edge=False, padding=(0, gap, 0, 0), show_header=headings, header_style="dim",
    )  # fmt: skip
    made.add_column(Text(found.first if headings else ""), no_wrap=True, overflow="ellipsis")
    for index, (heading, textual) in enumerate(zip(found.headings, found.textual, strict=True)):
        cells = [line.cells[index] for line in found.lines]
        widest = max((len(text) for cell in cells for text in (cell.text, cell.beside)), default=0)
        shown = heading.replace(" ", "\n") if narrow and len(heading) > widest else heading
        made.add_column(Text(shown), justify="left" if textual else "right", no_wrap=not textual)
    for line in found.lines:
        made.add_row(_name(line, separator), *(_cell(cell, separator) for cell in line.cells))
    return made


def _name(line: Line, separator: str) -> Text:
    return Text(line.name, style="bold").append(
        f"{separator}{line.beside}" if line.beside else "", style="not bold dim"
    )


def _cell(cell: Cell, separator: str) -> Text:
    text = Text(MARKS.get(cell.verdict, "") + cell.text, style=_STYLES.get(cell.verdict, ""))
    return text.append(f"{separator}{cell.beside}" if cell.beside else "", style="dim")

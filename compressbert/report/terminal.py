"""A report as a table in the terminal."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from compressbert.report import figures
from compressbert.results.record import Report, ReportGate, ReportRow

_WIDE = 112
_STYLES = {"pass": "green", "fail": "bold red", "cannot-tell": "yellow"}
_MARKS = {"pass": "✓ pass", "fail": "✗ fail", "cannot-tell": "? cannot tell"}


class ReportView:
    """A report as rich prints it: the rows, the verdicts of the gates, the summary.

    On a narrow terminal each interval stands below its value.
    """

    def __init__(self, report: Report) -> None:
        self._report = report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _table(self._report, narrow=options.max_width < _WIDE)
        yield Text()
        if self._report.gates:
            yield _gates(self._report.gates)
            yield Text()
        yield Text(figures.summary(self._report))
        for text in self._report.notes:
            yield Text(f"\n{text}", style="yellow")


def render(report: Report) -> RenderableType:
    """What rich prints of a report."""
    return ReportView(report)


def show(report: Report, console: Console) -> None:
    """Print a report."""
    console.print(render(report))


def _table(report: Report, *, narrow: bool) -> Table:
    metric = next((row.primary_metric for row in report.rows if row.primary_metric), "quality")
    gap = 1 if narrow else 2
    table = Table(
        title=Text(report.title, style="bold"),
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, gap, 0, 0),
    )
    table.add_column("", no_wrap=True, overflow="ellipsis")
    heading = f"{metric}{' %' if figures.in_percent(metric) else ''}"
    for text in (heading, "retained %", "size ×", "speed-up ×", "MB", "p50 ms", "peak MB"):
        table.add_column(Text(text), justify="right")
    for row in report.rows:
        cells = _row(row, baseline=row.name == report.baseline, separator="\n" if narrow else " ")
        table.add_row(*cells)
    return table


def _bounds_apart(text: str, separator: str) -> Text:
    """A figure with its interval dimmed after ``separator``."""
    value, _, rest = text.partition(" [")
    return Text(value).append(f"{separator}[{rest}", style="dim") if rest else Text(value)


def _row(row: ReportRow, *, baseline: bool, separator: str) -> list[Text]:
    cell = figures.headline_latency(row)
    name = Text(row.name, style="bold")
    if row.method:
        name.append(f"{separator}{row.method}", style="dim")
    return [
        name,
        _bounds_apart(figures.metric_text(figures.primary(row), row.primary_metric), separator),
        Text("baseline", style="dim")
        if baseline
        else _bounds_apart(figures.percent(row.retained), separator),
        Text(figures.times(row.compression)),
        _bounds_apart(figures.times_interval(row.speedup), separator),
        Text(figures.megabytes(row.bytes_on_disk)),
        Text(figures.milliseconds(cell.p50_ms if cell else None)),
        Text(figures.memory(row)),
    ]


def _gates(gates: tuple[ReportGate, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for gate in gates:
        table.add_row(
            Text(gate.name), Text(_MARKS[gate.verdict], style=_STYLES[gate.verdict]), Text(gate.reason)
        )
    return table

"""A regression check for a person: in the terminal, as Markdown, as a page."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from compressbert.report import figures, html, markdown, terminal
from compressbert.report.tables import Cell, Line, Table
from compressbert.report.write import write_files
from compressbert.results.record import Interval
from compressbert.results.regression import Change, Regression

RULE = (
    "Unchanged: the whole 95 % interval of the change lies within the tolerance. Worse or better: the interval "
    "excludes no change and the value exceeds the tolerance. Anything else cannot be told."
)

_WIDE = 140  # columns from which on the tolerance and the basis have room


class RegressionView:
    """A regression check as rich prints it."""

    def __init__(self, found: Regression) -> None:
        self._found = found

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(title(self._found), style="bold")
        yield Text()
        narrow = options.max_width < _WIDE
        yield terminal.table(changes(self._found, brief=narrow), narrow=narrow)
        yield Text()
        yield Text(summary(self._found))
        for text in self._found.notes:
            yield Text(f"\n{text}", style="yellow")


def title(found: Regression) -> str:
    """``sst2: export, then and now``; with both names where they differ."""
    runs = found.new if found.old == found.new else f"{found.old} → {found.new}"
    return f"{runs}: {found.new_row}, then and now"


def summary(found: Regression) -> str:
    """What is certain, in a sentence or two."""
    names = {verdict: [c.name for c in found.changes if c.verdict == verdict] for verdict in _ORDER}
    told = [] if found.worse else ["Nothing is certainly worse."]
    for verdict in ("worse", "better", "cannot-tell"):
        if names[verdict]:
            told.append(f"{_ORDER[verdict]}: {'; '.join(names[verdict])}.")
    if names["unchanged"]:
        others = len(found.changes) - len(names["unchanged"])
        told.append("The rest is unchanged." if others else "All is unchanged.")
    return " ".join(told) if found.changes else "There was nothing to compare."


_ORDER = {"worse": "Worse", "better": "Better", "unchanged": "Unchanged", "cannot-tell": "Cannot tell"}


def changes(found: Regression, *, brief: bool = False) -> Table:
    """Every figure then and now, the worst verdicts first; ``brief`` leaves out what the verdicts rest on."""
    ordered = sorted(found.changes, key=lambda change: list(_ORDER).index(change.verdict))
    headings = ("verdict", "then", "now", "change", *(() if brief else ("tolerance", "basis")))
    lines = []
    for change in ordered:
        cells = [
            Cell(change.verdict.replace("-", " "), verdict=change.verdict),
            _value(change, change.old),
            _value(change, change.new),
            _change(change),
        ]
        rests_on = [Cell(f"± {_amount(change, change.tolerance)}"), Cell(change.basis)]
        lines.append(Line(change.name, tuple(cells if brief else cells + rests_on)))
    return Table(headings, tuple(name in ("verdict", "basis") for name in headings), tuple(lines), first="")


def render_markdown(found: Regression) -> str:
    """The check as GitHub-flavoured Markdown."""
    parts = [f"# {markdown.escape(title(found))}", markdown.escape(summary(found))]
    parts += [f"> {markdown.escape(text)}" for text in found.notes]
    return "\n\n".join([*parts, markdown.table_of(changes(found)), RULE]) + "\n"


def render_html(found: Regression) -> str:
    """The check as one self-contained page."""
    return html.page(
        "regression.html.j2", title=title(found), summary=summary(found), notes=found.notes,
        changes=changes(found), rule=RULE,
    )  # fmt: skip


def write_regression(found: Regression, folder: Path) -> tuple[Path, ...]:
    """Write `regression.md`, `regression.html` and, last, `regression.json` into ``folder``."""
    return write_files(
        folder,
        {
            "regression.md": render_markdown(found),
            "regression.html": render_html(found),
            "regression.json": found.model_dump_json(indent=2) + "\n",
        },
    )


def _value(change: Change, found: Interval | None) -> Cell:
    if found is None:
        return Cell()
    if change.kind == "size":
        return Cell(f"{figures.megabytes(round(found.value))} MB")
    if change.kind == "memory":
        return Cell(f"{found.value:.0f}")
    if change.kind == "speed":
        return Cell(figures.times(found.value), figures.bounds(found, digits=2 if found.value < 10 else 1))
    value, _, bounds = figures.metric_text(found, change.name).partition(" ")
    return Cell(value, bounds)


def _change(change: Change) -> Cell:
    found = change.change
    if found is None:
        return Cell()
    scale = 100.0 if change.kind != "quality" or figures.in_percent(change.name) else 1.0
    digits = 1 if scale == 100 else 3
    unit = "" if change.kind == "quality" else " %"
    text = figures.signed(found.value * scale, digits) + unit
    exact = found.low == found.high
    return Cell(text, "" if exact else figures.bounds(found, scale=scale, digits=digits))


def _amount(change: Change, value: float) -> str:
    return figures.points(value, change.name) if change.kind == "quality" else f"{value * 100:g} %"

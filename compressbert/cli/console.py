"""The terminal: results on stdout, progress and notes on stderr, as bars for a person or lines for a log."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from compressbert import progress
from compressbert.cli.boundary import silence_stdout

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress, TaskID

LINE_EVERY_S = 30.0
_QUICK_S = 1.0  # work that took less is not worth a second line
_PIPE_WIDTH = 200  # columns of a table that no terminal cuts


class Screen:
    """Where a command prints.

    Args:
        as_json: One JSON document on stdout and nothing else.
        quiet: No progress and no notes.
        verbose: Also show the settings before work.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False, verbose: bool = False) -> None:
        self.as_json = as_json
        self.verbose = verbose
        # Under `accelerate launch` the first process speaks for all.
        self._speaks = os.environ.get("RANK", "0") == "0"
        if not quiet and self._speaks:
            progress.listen(listener())

    def show(self, document: dict[str, Any], *parts: RenderableType) -> None:
        """Print the result: ``document`` with `--json`, else ``parts``."""
        if not self._speaks:
            return
        try:
            if self.as_json:
                sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
            else:
                from rich.text import Text

                console = stdout_console()
                for part in parts:
                    console.print(
                        part, soft_wrap=isinstance(part, Text)
                    )  # paths and YAML stay on their lines
            sys.stdout.flush()
        except BrokenPipeError:
            silence_stdout()  # the exit code of the command still counts

    def text(self, text: str) -> None:
        """Print plain text on stdout, whatever the mode."""
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            silence_stdout()


def stdout_console() -> Console:
    """A console on stdout that neither cuts tables in a pipe nor interprets markup."""
    from rich.console import Console

    class Results(Console):
        def on_broken_pipe(self) -> None:
            silence_stdout()  # rich would end the process here, and with it the command's exit code

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Results(width=width, markup=False, highlight=False, emoji=False)


def listener() -> progress.Listener:
    """Bars on a terminal, lines elsewhere."""
    from rich.console import Console

    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    return Bars(console) if console.is_terminal and not console.is_dumb_terminal else Lines()


def duration(seconds: float) -> str:
    """``8.2 s``, ``3:07`` or ``1:02:45``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def count(value: float) -> str:
    """A count without a needless fraction: ``1,200`` or ``0.4``."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def facts_text(facts: dict[str, float | str]) -> str:
    """``loss 0.213, accuracy 0.91``."""
    shown = (
        f"{name} {value}" if isinstance(value, str) else f"{name} {value:.4g}"
        for name, value in facts.items()
    )
    return ", ".join(shown)


class LineTask:
    """One piece of work that says where it is every half minute."""

    def __init__(self, label: str, total: float | None, unit: str) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = 0.0
        self.facts: dict[str, float | str] = {}
        self.started = self._said = time.monotonic()

    def advance(self, amount: float = 1, **facts: float | str) -> None:
        self.done += amount
        self.facts |= facts
        now = time.monotonic()
        if now - self._said >= LINE_EVERY_S:
            self._said = now
            write_line(f"{self.label}: {self._state(now - self.started)}")

    def _state(self, seconds: float) -> str:
        parts = [self.amount()]
        rate = self.done / seconds if seconds > 0 else 0.0
        if rate > 0:
            parts.append(f"{rate:,.1f} {self.unit}/s")
            if self.total is not None:
                parts.append(f"{duration(max(self.total - self.done, 0) / rate)} left")
        return ", ".join([*parts, *([facts_text(self.facts)] if self.facts else [])])

    def amount(self) -> str:
        """How much of the work is done."""
        if self.total is None:
            return f"{count(self.done)} {self.unit}"
        share = 100 * self.done / self.total if self.total else 100.0
        return f"{count(self.done)}/{count(self.total)} {self.unit} ({share:.0f} %)"

    def end(self) -> str | None:
        """The last line; None if the work was too short to need one."""
        seconds = time.monotonic() - self.started
        if seconds < _QUICK_S:
            return None
        complete = self.total is None or self.done >= self.total
        state = "done" if complete else f"stopped at {self.amount()}"
        facts = f", {facts_text(self.facts)}" if self.facts else ""
        return f"{self.label}: {state} in {duration(seconds)}{facts}"


class Lines:
    """Progress as plain lines, for logs."""

    def start(self, label: str, total: float | None, unit: str) -> LineTask:
        write_line(f"{label}: {count(total)} {unit}" if total is not None else f"{label} …")
        return LineTask(label, total, unit)

    def finish(self, task: progress.Task) -> None:
        line = task.end() if isinstance(task, LineTask) else None
        if line is not None:
            write_line(line)

    def note(self, text: str) -> None:
        write_line(text)

    def warn(self, text: str) -> None:
        write_line(f"warning: {text}")


def write_line(text: str) -> None:
    """One line on stderr at once."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class BarTask:
    """One piece of work shown as a bar."""

    def __init__(self, bars: Progress, line: LineTask) -> None:
        self._bars = bars
        self.line = line
        self.id: TaskID = bars.add_task(line.label, total=line.total, unit=line.unit, facts="")

    def advance(self, amount: float = 1, **facts: float | str) -> None:
        self.line.done += amount
        self.line.facts |= facts
        self._bars.update(self.id, advance=amount, facts=facts_text(self.line.facts))


class Bars:
    """Progress as bars with throughput and time left, gone when done; what stays is one line each."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: Progress | None = None
        self._running = 0

    def start(self, label: str, total: float | None, unit: str) -> BarTask:
        if self._bars is None:
            self._bars = _progress(self._console)
            self._bars.start()
        self._running += 1
        return BarTask(self._bars, LineTask(label, total, unit))

    def finish(self, task: progress.Task) -> None:
        if not isinstance(task, BarTask) or self._bars is None:
            return
        self._bars.remove_task(task.id)
        line = task.line.end()
        if line is not None:
            self._console.print(line, style="dim")
        self._running -= 1
        if self._running == 0:
            self._bars.stop()
            self._bars = None

    def note(self, text: str) -> None:
        self._console.print(text)

    def warn(self, text: str) -> None:
        self._console.print(f"warning: {text}", style="yellow")


def _progress(console: Console) -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import ProgressColumn as Column
    from rich.progress import Task as RichTask
    from rich.text import Text

    class Rate(Column):
        def render(self, task: RichTask) -> Text:
            return Text(f"{task.speed:,.1f} {task.fields['unit']}/s" if task.speed else "", style="cyan")

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[facts]}", markup=False, style="dim"),
        console=console,
        transient=True,
    )

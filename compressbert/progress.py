"""Progress and notes, said by any layer and shown by whoever listens.

The library says what it is doing through `track` and `note`; nothing is shown until a listener is set.
The command line sets a rich bar on a terminal and plain lines elsewhere (`cli/console.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Task(Protocol):
    """One running piece of work."""

    def advance(self, amount: float = 1, **facts: float | str) -> None:
        """Report ``amount`` more units done, with the facts worth showing (loss, accuracy)."""


class Listener(Protocol):
    """Shows progress to a person."""

    def start(self, label: str, total: float | None, unit: str) -> Task:
        """Begin showing a piece of work of ``total`` units (None: unknown)."""

    def finish(self, task: Task) -> None:
        """Stop showing ``task``."""

    def note(self, text: str) -> None:
        """Show one line: a fact the user should know."""

    def warn(self, text: str) -> None:
        """Show one line: something the user should look at, though the work goes on."""


class _SilentTask:
    def advance(self, amount: float = 1, **facts: float | str) -> None:
        pass


class Silent:
    """The listener of a library that nobody watches."""

    def start(self, label: str, total: float | None, unit: str) -> Task:
        return _SilentTask()

    def finish(self, task: Task) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        pass


_listener: Listener = Silent()


def listen(listener: Listener) -> None:
    """Make ``listener`` the one that shows progress in this process."""
    global _listener  # noqa: PLW0603 - one terminal per process
    _listener = listener


@contextmanager
def track(label: str, total: float | None = None, unit: str = "it") -> Iterator[Task]:
    """Show a piece of work while the block runs."""
    task = _listener.start(label, total, unit)
    try:
        yield task
    finally:
        _listener.finish(task)


def note(text: str) -> None:
    """Say one fact the user should know."""
    _listener.note(text)


_said: set[str] = set()


def note_once(text: str) -> None:
    """Say one fact the user should know, unless this process said it already."""
    if text not in _said:
        _said.add(text)
        note(text)


def warn(text: str) -> None:
    """Say something the user should look at, though the work goes on."""
    _listener.warn(text)

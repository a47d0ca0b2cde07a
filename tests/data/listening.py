"""A listener that keeps what the library said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from compressbert import progress


class Heard(progress.Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@contextmanager
def hearing() -> Iterator[Heard]:
    heard = Heard()
    progress.listen(heard)
    try:
        yield heard
    finally:
        progress.listen(progress.Silent())

"""The record of a regression check: what changed from one report to another, and which changes are certain."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from compressbert.results.record import SCHEMA_VERSION, Interval, Record

Kind = Literal["quality", "speed", "size", "memory"]
Verdict = Literal["better", "worse", "unchanged", "cannot-tell"]


class Change(Record):
    """One figure of the last row, then and now."""

    name: str = Field(description="For example `accuracy`, `retained`, `speed-up 8x128`, `bytes on disk`.")
    kind: Kind
    better: Literal["higher", "lower"]
    old: Interval | None = Field(description="Without an interval of its own, low and high equal the value.")
    new: Interval | None
    change: Interval | None = Field(
        description="New minus old for quality, in units of the metric; else new / old - 1."
    )
    tolerance: float = Field(description="In the units of `change`.")
    verdict: Verdict
    basis: str = Field(description="What the interval of the change rests on, or why there is no telling.")


class Regression(Record):
    """Content of `regression.json`."""

    schema_version: int = SCHEMA_VERSION
    old: str = Field(description="Title of the report that was the baseline.")
    new: str
    old_row: str = Field(description="Name of its last row, which is what is compared.")
    new_row: str
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = Field((), description="What a reader of the verdicts must know.")

    @property
    def worse(self) -> tuple[Change, ...]:
        """What is certainly worse."""
        return tuple(change for change in self.changes if change.verdict == "worse")

    @property
    def exit_code(self) -> int:
        """1 if anything is certainly worse, else 0."""
        return int(bool(self.worse))

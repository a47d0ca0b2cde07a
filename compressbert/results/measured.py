"""What measuring leaves for a report: comparisons of quality and timings of candidates."""

from __future__ import annotations

from pydantic import Field

from compressbert.results.record import (
    ColdStart,
    Comparison,
    Conditions,
    Interval,
    LatencyCell,
    MemoryFacts,
    Record,
)

__all__ = ["DATA_CELL", "CandidateTimings", "Comparison", "cell_name"]

DATA_CELL = "data"


def cell_name(batch: int, length: int | None) -> str:
    """Name of a latency cell: ``8x128`` for batch 8 at length 128, ``data`` for the data's own lengths one by one,
    ``32xdata`` for 32 of them in one padded batch."""
    if length is None:
        return DATA_CELL if batch == 1 else f"{batch}x{DATA_CELL}"
    return f"{batch}x{length}"


class CandidateTimings(Record):
    """Latency and memory of one candidate, measured in one interleaved run with its baseline."""

    name: str
    path: str
    runtime: str
    threads: int
    load_ms: float
    cells: tuple[LatencyCell, ...]
    speedup_by_cell: dict[str, Interval] = Field(
        description="Cell name to baseline / candidate; empty for the baseline."
    )
    memory: MemoryFacts
    cold_start: ColdStart | None = None
    tokenizer_ms: float | None = None
    conditions: Conditions | None = Field(None, description="Of the run all candidates were timed in.")
    other_cores: float | None = Field(
        None, description="Cores that other processes kept busy on average while it was measured."
    )

    @property
    def headline_cell(self) -> str | None:
        """The cell that speaks for the candidate: the data's own lengths where timed, else the first."""
        names = [cell_name(cell.batch, cell.length) for cell in self.cells]
        return DATA_CELL if DATA_CELL in names else next(iter(names), None)

    @property
    def speedup(self) -> Interval | None:
        """Baseline latency / candidate latency in the headline cell; None for the baseline."""
        return self.speedup_by_cell.get(self.headline_cell or "")

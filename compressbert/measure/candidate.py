"""One candidate of a benchmark: its process's threads, and what rounds found out about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from compressbert.measure.client import Loaded, Memory
from compressbert.measure.timing_statistics import Floats
from compressbert.measure.worker import Times
from compressbert.results.record import MemoryFacts


@dataclass(frozen=True)
class Threads:
    """The threads of a candidate's process, and whether onnxruntime's wait for work without sleeping."""

    count: int
    spinning: bool = False


@dataclass(frozen=True)
class RoundTimes:
    """What one candidate's process did in one cell, in milliseconds."""

    calls: Floats  # each call by the clock
    inputs: Floats  # the median call of each input, which stands at the same place for every candidate

    @classmethod
    def of(cls, turns: Sequence[Times], passes: int, *, on_core: bool) -> RoundTimes:
        inputs = [
            np.median(np.reshape(turn.on_core if on_core else turn.elapsed, (passes, -1)), axis=0)
            for turn in turns
        ]
        calls = [np.asarray(turn.elapsed) for turn in turns]
        return cls(np.concatenate(calls), np.concatenate(inputs))


@dataclass
class Candidate:
    """What the rounds found out about one candidate."""

    name: str
    path: Path
    threads: Threads
    starts: list[Loaded] = field(default_factory=list)
    memories: list[Memory] = field(default_factory=list)
    rounds: dict[str, list[RoundTimes]] = field(default_factory=dict)  # by cell
    unsteady: set[str] = field(default_factory=set)

    def calls(self, cell: str) -> list[Floats]:
        """Milliseconds of each call by the clock, one array per round."""
        return [done.calls for done in self.rounds[cell]]

    def memory(self) -> MemoryFacts:
        """The largest of each figure over all processes."""
        runs = [memory.run_rss_bytes for memory in self.memories if memory.run_rss_bytes is not None]
        return MemoryFacts(
            peak_rss_mb=max(memory.peak_rss_bytes for memory in self.memories) / 1e6,
            load_rss_mb=max(start.load_rss_bytes for start in self.starts) / 1e6,
            run_rss_mb=max(runs) / 1e6 if runs else None,
        )

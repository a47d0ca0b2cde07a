"""Tuning of a session: which threads suit an exported file on this machine. What is found is told, not stored in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compressbert.config.schema import BenchmarkSettings
from compressbert.measure.candidate import Threads
from compressbert.measure.latency import benchmark
from compressbert.progress import note
from compressbert.results.measured import CandidateTimings
from compressbert.results.record import Conditions, Interval, SessionSetting, TimedSession

WORTH = 1.02  # a setting must be faster by so much to replace a simpler one


@dataclass(frozen=True)
class TunedThreads:
    """What was found: the best setting over all shapes and for each, and every timing, one thread first."""

    session: SessionSetting
    by_cell: dict[str, SessionSetting]
    timed: tuple[TimedSession, ...]
    conditions: Conditions | None


def thread_counts(cores: int) -> list[int]:
    """1, 2, 4, … and the number of cores itself."""
    return sorted({*(2**power for power in range(cores.bit_length()) if 2**power <= cores), cores})


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def tune_threads(
    file: Path, settings: BenchmarkSettings, lengths: Sequence[int] | None
) -> TunedThreads | None:
    """Time ``file`` with every number of threads, spinning and not; None on a single core.

    Args:
        file: An .onnx file.
        settings: Rounds and shapes.
        lengths: Token counts of the data's rows; None without data.
    """
    counts = thread_counts(cores())
    if len(counts) == 1:
        return None
    tried = [
        Threads(count, spinning)
        for count in counts
        for spinning in ((False, True) if count > 1 else (False,))
    ]
    names = [f"{each.count} threads{', spinning' if each.spinning else ''}" for each in tried]
    timings = benchmark(
        dict.fromkeys(names, file), settings, lengths, threads=dict(zip(names, tried, strict=True))
    )
    timed = tuple(_timed(each, timing) for each, timing in zip(tried, timings, strict=True))
    best = _simplest([each.speedup for each in timed])
    by_cell = {
        cell: timed[_simplest([_ratio(each.speedup_by_cell, cell) for each in timed])].session
        for cell in timed[-1].speedup_by_cell
    }
    note(f"Fastest for one request at a time on this machine: {names[best]}.")
    return TunedThreads(timed[best].session, by_cell, timed, timings[0].conditions)


def _simplest(speedups: Sequence[float]) -> int:
    """The fastest setting, or the first in order that is hardly slower."""
    fastest = max(speedups)
    return next(index for index, speedup in enumerate(speedups) if speedup * WORTH >= fastest)


def _ratio(ratios: dict[str, Interval], cell: str) -> float:
    return ratios[cell].value if cell in ratios else 1.0


def _timed(threads: Threads, timing: CandidateTimings) -> TimedSession:
    ratios: dict[str, Interval] = timing.speedup_by_cell
    speedup = float(np.exp(np.mean([np.log(ratio.value) for ratio in ratios.values()]))) if ratios else 1.0
    session = SessionSetting(intra_op_num_threads=threads.count, allow_spinning=threads.spinning)
    return TimedSession(session=session, speedup=speedup, speedup_by_cell=ratios, latency=timing.cells)

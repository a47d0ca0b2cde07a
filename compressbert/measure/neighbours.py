"""How much of the machine other processes used while something was timed.

A load average would not do: it lags by a minute and counts our own work. Processor time is counted exactly.
"""

from __future__ import annotations

import os
import time

import psutil

BUSY_CORES = 0.25  # above this, neighbours lengthen calls that outlast a time slice


class Neighbours:
    """Counts from its creation on."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._all = _machine_seconds()
        self._ours = _our_seconds()

    def cores(self) -> float:
        """Cores that other processes kept busy on average since the count began, at least 0."""
        wall = time.perf_counter() - self._started
        others = (_machine_seconds() - self._all) - (_our_seconds() - self._ours)
        return max(0.0, others / wall)


def busy_note(cores: float) -> str:
    """What a reader of the timings must know; nothing if the machine was quiet."""
    if cores <= BUSY_CORES:
        return ""
    return (
        f"Other processes kept {cores:.1f} of {os.cpu_count()} cores busy while latency was measured: "
        "absolute times are too long, and ratios favour the smaller model. Measure again on a quiet machine."
    )


def _machine_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def _our_seconds() -> float:
    """Processor time of this process and the processes it started that are still there."""
    total = 0.0
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        try:
            used = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += used.user + used.system
    return total

"""How much of the machine other processes used while something was timed.

A load average would not do: it lags by a minute and counts our own work. Processor time is counted exactly.
"""

from __future__ import annotations

import os
import time

import psutil

BUSY_CORES = 0.25  # above this, neighbours lengthen calls that outlast a time slice
_LOOK_SECONDS = 0.3  # how long the cores are watched to find the quietest


class Neighbours:
    """Counts from its creation on."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._all = _machine_seconds()
        self._ours = _our_seconds()

    def seconds(self) -> tuple[float, float]:
        """Seconds since the count began, and the core-seconds that other processes used in them, at least 0."""
        wall = time.perf_counter() - self._started
        others = (_machine_seconds() - self._all) - (_our_seconds() - self._ours)
        return wall, max(0.0, others)


def load_average() -> float | None:
    """Load average over the last minute; None where the system keeps none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def quietest_cores(count: int) -> list[int]:
    """The ``count`` cores of this process that were least used in the last moment, in order.

    Empty where a process cannot be bound, or when all its cores are wanted.
    """
    if not hasattr(os, "sched_getaffinity"):
        return []
    allowed = os.sched_getaffinity(0)
    if count >= len(allowed):
        return []
    used = psutil.cpu_percent(interval=_LOOK_SECONDS, percpu=True)
    return sorted(sorted(allowed, key=lambda core: used[core] if core < len(used) else 0.0)[:count])


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

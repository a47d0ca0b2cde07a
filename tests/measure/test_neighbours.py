"""Other processes' work is counted, and our own is not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from compressbert.measure import neighbours
from compressbert.measure.neighbours import BUSY_CORES, Neighbours, busy_note, quietest_cores

BURN = "import time\nwhile time.process_time() < 0.4: pass\nprint('done', flush=True)\ninput()"


def test_own_work_and_that_of_workers_is_ours() -> None:
    before, begun = neighbours._our_seconds(), time.process_time()
    with subprocess.Popen(
        [sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        while time.process_time() - begun < 0.2:
            pass
        assert worker.stdout.readline() == "done\n"
        counted = neighbours._our_seconds() - before
        worker.communicate("\n")
    assert counted > 0.55  # 0.4 of the worker's and 0.2 of our own, in ticks of 10 ms


def test_the_machines_work_less_ours_is_the_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, machine, ours = iter([100.0, 110.0]), iter([50.0, 65.0]), iter([7.0, 17.0])
    monkeypatch.setattr(neighbours.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(neighbours, "_machine_seconds", lambda: next(machine))
    monkeypatch.setattr(neighbours, "_our_seconds", lambda: next(ours))
    assert Neighbours().seconds() == (10.0, 5.0)  # 15 core-seconds in all, 10 of them ours


def test_counting_errors_never_give_less_than_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ours: Iterator[float] = iter([0.0, 1e6])
    monkeypatch.setattr(neighbours, "_our_seconds", lambda: next(ours))
    assert Neighbours().seconds()[1] == 0.0


def test_only_a_busy_machine_is_noted() -> None:
    assert busy_note(BUSY_CORES) == ""
    assert "1.3 of" in busy_note(1.3)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="processes cannot be bound here")
def test_the_quietest_cores_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 5})
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval, percpu: [90.0, 10.0, 50.0, 0, 0, 20.0])
    assert quietest_cores(1) == [1]
    assert quietest_cores(2) == [1, 5]
    assert quietest_cores(4) == []  # all of them: nothing to choose

"""Other processes' work is counted, and our own is not."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

from compressbert.measure.neighbours import BUSY_CORES, Neighbours, busy_note

BURN = "import time\nend = time.perf_counter() + {seconds}\nwhile time.perf_counter() < end: pass"


def test_own_work_and_that_of_workers_is_not_counted() -> None:
    with subprocess.Popen([sys.executable, "-c", BURN.format(seconds=1.5)]):
        time.sleep(0.3)  # started before the count: a worker
        counted, machine = Neighbours(), psutil.cpu_times()
        started = time.perf_counter()
        while time.perf_counter() - started < 0.8:
            pass
        others = counted.cores()
        now = psutil.cpu_times()
    everything = (now.user + now.system + now.nice - machine.user - machine.system - machine.nice) / 0.8
    assert everything > 0.9  # the two of us kept at least one core busy
    assert others < everything - 0.4  # the two of us got that much of the machine at the least


def test_a_neighbour_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compressbert.measure.neighbours._our_seconds", lambda: 0.0)  # nothing is ours
    counted = Neighbours()
    started = time.perf_counter()
    while time.perf_counter() - started < 0.5:
        pass
    assert counted.cores() > 0.5


def test_only_a_busy_machine_is_noted() -> None:
    assert busy_note(BUSY_CORES) == ""
    assert "1.3 of" in busy_note(1.3)

"""When a run ends: a number of rounds, a budget, a precision. Rounds are made up, and time is what they say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compressbert import progress
from compressbert.config.schema import BenchmarkSettings
from compressbert.measure import latency
from compressbert.measure.candidate import RoundTimes
from compressbert.measure.cells import Cell
from compressbert.measure.client import Loaded, Memory
from compressbert.measure.latency import Measurement

SECONDS = 2.0  # of a made-up round
TRUE_RATIO = 1.5


class MadeUp(Measurement):
    """Rounds without processes: candidates that differ by ``TRUE_RATIO`` and scatter."""

    clock = 0.0

    def __init__(self, scatter: float, **settings: Any) -> None:
        super().__init__({"a": Path("a"), "b": Path("b")}, BenchmarkSettings(cells=(), **settings), [8])
        self.scatter, self.noise = scatter, np.random.default_rng(0)
        self._cells = [Cell(1, None, (8,))]

    def _round(self) -> None:
        MadeUp.clock += SECONDS
        self._seconds += SECONDS
        self.rounds += 1
        for candidate, middle in zip(self._candidates, (TRUE_RATIO, 1.0), strict=True):
            times = middle * np.exp(self.noise.normal(0, self.scatter, 5))
            candidate.rounds.setdefault("data", []).append(RoundTimes(times, times))
            candidate.starts.append(Loaded("made up", 10.0 * self.rounds, 3.0, 50_000_000, None, None))
            candidate.memories.append(Memory(60_000_000 + self.rounds, 55_000_000))


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    MadeUp.clock = 0.0
    monkeypatch.setattr(latency.time, "perf_counter", lambda: MadeUp.clock)


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    heard: list[str] = []

    class Ear(progress.Silent):
        def warn(self, text: str) -> None:
            heard.append(text)

    progress.listen(Ear())
    yield heard
    progress.listen(progress.Silent())


def ran(scatter: float, most_rounds: int | None = None, **settings: Any) -> Measurement:
    measurement = MadeUp(scatter, **settings)
    measurement.run(most_rounds)
    return measurement


def test_as_many_rounds_as_asked() -> None:
    assert ran(0.1, rounds=5).rounds == 5


def test_a_budget_is_used_and_kept() -> None:
    assert ran(0.1, budget_seconds=21).rounds == 10  # an eleventh would end after 22 s
    assert ran(0.1, budget_seconds=0.1).rounds == 2  # an interval needs two, whatever they take


def test_a_budget_ends_at_the_callers_number_of_rounds() -> None:
    assert ran(0.1, most_rounds=4, budget_seconds=1000).rounds == 4


def test_a_precision_ends_a_run_after_eight_rounds_at_the_earliest(warnings: list[str]) -> None:
    assert ran(0.0001, precision=0.03, budget_seconds=1000).rounds == 8
    patient = ran(0.2, precision=0.03, budget_seconds=1000)
    assert patient.rounds > 8
    half_width = patient.timings()[0].conditions.half_width  # type: ignore[union-attr]
    assert half_width is not None
    assert half_width <= 0.03
    assert warnings == []


def test_a_precision_out_of_reach_is_said(warnings: list[str]) -> None:
    assert ran(0.2, precision=0.001, budget_seconds=21).rounds == 10
    assert len(warnings) == 1
    assert "± 0.1% was asked" in warnings[0]


def test_more_rounds_can_be_added() -> None:
    measurement = ran(0.05, rounds=4)
    wide = measurement.timings()[1].speedup
    measurement.add(60)
    narrow, conditions = measurement.timings()[1].speedup, measurement.timings()[1].conditions
    assert wide is not None
    assert narrow is not None
    assert conditions is not None
    assert narrow.high - narrow.low < 0.5 * (wide.high - wide.low)
    assert narrow.low < TRUE_RATIO < narrow.high
    assert (conditions.rounds, conditions.seconds) == (64, 128.0)


def test_starts_and_memory_of_all_processes_are_summed_up() -> None:
    first, _ = ran(0.05, rounds=5).timings()
    assert first.cold_start is not None
    assert (first.cold_start.load_ms, first.cold_start.first_ms, first.cold_start.runs) == (30.0, 3.0, 5)
    assert first.load_ms == 30.0
    assert first.memory.peak_rss_mb == pytest.approx(60.000005)
    assert (first.memory.load_rss_mb, first.memory.run_rss_mb) == (50.0, 55.0)

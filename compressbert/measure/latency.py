"""Latency of several candidates, interleaved: every candidate in a process of its own, one timed at a time,
round after round.

A round starts every candidate in a fresh process, warms it up, and then lets the candidates take turns in a
random order and its reverse, the baseline among them: what disturbs the machine for a moment disturbs
neighbours alike, and what a process was dealt at its start (where its memory came to lie is worth a per cent or
two) is dealt anew.
Speed-ups are ratios within a round (`timing_statistics.py`). Every start is also a cold start.

Latencies are times by the clock. Ratios compare, for one thread, the time in which a call had a core: waiting
for a core that some other process holds is no property of the candidate. On a quiet machine both agree.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from compressbert.config.schema import BenchmarkSettings
from compressbert.errors import ConfigError
from compressbert.measure.candidate import Candidate, RoundTimes, Threads
from compressbert.measure.cells import Cell, Pace, cells_to_time, pace
from compressbert.measure.client import WorkerProcess
from compressbert.measure.neighbours import BUSY_CORES, Neighbours, busy_note, load_average, quietest_cores
from compressbert.measure.timing_statistics import (
    geometric_interval,
    interval_around,
    precise_enough,
    ratio_interval,
    relative_half_width,
)
from compressbert.measure.tokenizer import Texts, tokenizer_ms
from compressbert.measure.worker import Times
from compressbert.progress import track, warn
from compressbert.results.measured import CandidateTimings
from compressbert.results.record import ColdStart, Conditions, Interval, LatencyCell

MOST_ROUNDS = 200


class Measurement:
    """Rounds of several candidates, the first of them the baseline. More can be added at any time."""

    def __init__(
        self,
        candidates: Mapping[str, Path],
        settings: BenchmarkSettings,
        lengths: Sequence[int] | None = None,
        *,
        own_lengths: Mapping[str, Sequence[int]] | None = None,
        threads: Mapping[str, Threads] | None = None,
        seed: int = 0,
        trust_remote_code: bool = False,
    ) -> None:
        if not candidates:
            raise ConfigError("Nothing to benchmark: no model was given.", hint="Give at least one model.")
        usual = Threads(settings.threads)
        self._candidates = [
            Candidate(name, Path(path), (threads or {}).get(name, usual)) for name, path in candidates.items()
        ]
        self._most_threads = max(candidate.threads.count for candidate in self._candidates)
        self._settings = settings
        self._lengths = lengths
        self._own_lengths = own_lengths
        self._seed = seed
        self._shuffler = random.Random(seed)
        self._trust = trust_remote_code
        self._order: list[Candidate] = []
        self._cells: list[Cell] = []
        self._paces: dict[str, Pace] = {}
        self._seconds = 0.0
        self._busy_core_seconds = 0.0
        self._load_before = load_average()
        self._cores = quietest_cores(self._most_threads)
        self.rounds = 0

    def run(self, most_rounds: int | None = None) -> None:
        """Do as many rounds as the settings say: a number of them, or what a budget and a precision allow.

        Args:
            most_rounds: Where a budget ends too.
        """
        budget, precision = self._settings.budget_seconds, self._settings.precision
        if budget is None and precision is None:
            self.add(self._settings.rounds)
            return
        started, most = time.perf_counter(), budget or float("inf")
        with track("benchmark", total=budget, unit="s") as task:
            while self.rounds < (most_rounds or MOST_ROUNDS):
                before = time.perf_counter()
                self._round()
                took, spent = time.perf_counter() - before, time.perf_counter() - started
                width = self._half_width() if self.rounds > 1 else None
                task.advance(took, rounds=self.rounds, **({} if width is None else {"±": f"{width:.1%}"}))
                if precision and width is not None and precise_enough(width, self.rounds, precision):
                    return
                if spent + took > most and self.rounds > 1:
                    break
        if precision and (width := self._half_width()) is not None and width > precision:
            warn(
                f"After {self.rounds} rounds in {self._seconds:.0f} s the widest ratio is known to "
                f"± {width:.1%}; ± {precision:.1%} was asked. Allow more seconds, or measure on a quieter machine."
            )

    def add(self, rounds: int) -> None:
        """Do ``rounds`` more rounds."""
        with track("benchmark", total=rounds * len(self._candidates), unit="processes") as task:
            for _ in range(rounds):
                self._round()
                task.advance(len(self._candidates))

    def timings(self) -> list[CandidateTimings]:
        """What is known so far, one record per candidate in the order given."""
        conditions = self._conditions()
        return [self._timings(candidate, conditions) for candidate in self._candidates]

    def _round(self) -> None:
        neighbours = Neighbours()
        with ExitStack() as stack:
            running = [
                (candidate, stack.enter_context(self._start(candidate))) for candidate in self._next_order()
            ]
            if not self._cells:
                limits = [worker.loaded.max_length for _, worker in running]
                longest = min((limit for limit in limits if limit is not None), default=None)
                self._cells = cells_to_time(self._settings, self._lengths, longest, self._own_lengths)
            for cell in self._cells:
                self._time(cell, running)
            for candidate, worker in running:
                candidate.memories.append(worker.memory())
            seconds, busy = neighbours.seconds()
        self._seconds += seconds
        self._busy_core_seconds += busy
        self.rounds += 1

    def _next_order(self) -> list[Candidate]:
        """A random order, and in the next round its reverse: whoever starts first does so as often as last."""
        if self.rounds % 2 == 0:
            self._order = self._shuffler.sample(self._candidates, len(self._candidates))
        else:
            self._order.reverse()
        return self._order

    def _start(self, candidate: Candidate) -> WorkerProcess:
        worker = WorkerProcess(
            candidate.path,
            threads=candidate.threads.count,
            spinning=candidate.threads.spinning,
            cores=self._cores or None,
            trust_remote_code=self._trust,
        )
        candidate.starts.append(worker.loaded)
        return worker

    def _time(self, cell: Cell, running: Sequence[tuple[Candidate, WorkerProcess]]) -> None:
        """One cell in one round: warm up, then turns in a random order, every other turn in its reverse."""
        share = max(2, -(-self._settings.warmup // len(self._cells)))  # the warm-up is of all cells together
        call_ms = {}
        for candidate, worker in running:
            lengths = cell.sample(share, candidate.name)
            warmth = worker.warm_up(
                batch=cell.batch, lengths=lengths, calls=share, seed=self._seed, padded=cell.padded
            )
            call_ms[candidate.name] = warmth.core_ms
            if not warmth.steady:
                candidate.unsteady.add(cell.name)
        plan = self._paces.setdefault(cell.name, pace(cell, call_ms))
        found: dict[str, list[Times]] = {candidate.name: [] for candidate, _ in running}
        order = self._shuffler.sample(running, len(running))
        for turn in plan.deal(self._shuffler):
            order.reverse()
            for candidate, worker in order:
                calls = plan.passes[candidate.name] * turn.inputs
                lengths = cell.at(turn.places, candidate.name)
                times = worker.time(
                    batch=cell.batch, lengths=lengths, calls=calls, seed=self._seed, padded=cell.padded
                )
                found[candidate.name].append(times)
        for candidate, _ in running:
            name, alone = candidate.name, self._most_threads == 1
            done = RoundTimes.of(found[name], plan.passes[name], on_core=alone)
            candidate.rounds.setdefault(cell.name, []).append(done)

    def _ratios(self, candidate: Candidate) -> dict[str, Interval]:
        baseline = self._candidates[0]
        if candidate is baseline:
            return {}
        return {
            cell.name: ratio_interval(
                [done.inputs for done in baseline.rounds[cell.name]],
                [done.inputs for done in candidate.rounds[cell.name]],
            )
            for cell in self._cells
        }

    def _timings(self, candidate: Candidate, conditions: Conditions) -> CandidateTimings:
        return CandidateTimings(
            name=candidate.name,
            path=str(candidate.path),
            runtime=candidate.starts[0].runtime,
            threads=candidate.threads.count,
            load_ms=float(np.median([start.load_ms for start in candidate.starts])),
            cells=tuple(self._latency(candidate, cell) for cell in self._cells),
            speedup_by_cell=self._ratios(candidate),
            memory=candidate.memory(),
            cold_start=ColdStart(
                load_ms=float(np.median([start.load_ms for start in candidate.starts])),
                first_ms=float(np.median([start.first_ms for start in candidate.starts])),
                runs=len(candidate.starts),
            ),
            conditions=conditions,
            other_cores=conditions.other_cores,
        )

    def _latency(self, candidate: Candidate, cell: Cell) -> LatencyCell:
        rounds = candidate.calls(cell.name)
        calls = np.concatenate(rounds)
        middle = geometric_interval([np.median(one) for one in rounds])
        p95_ms = float(np.percentile(calls, 95))
        p95 = interval_around(p95_ms, [np.percentile(one, 95) for one in rounds])
        return LatencyCell(
            runtime=candidate.starts[0].runtime,
            threads=candidate.threads.count,
            batch=cell.batch,
            length=cell.fixed,
            p50_ms=middle.value,
            p95_ms=p95_ms,
            p95_low=p95.low,
            p95_high=p95.high,
            p99_ms=float(np.percentile(calls, 99)),
            low=middle.low,
            high=middle.high,
            runs=len(calls),
            per_second=1e3 * cell.batch / float(calls.mean()),
            steady=cell.name not in candidate.unsteady,
        )

    def _half_width(self) -> float | None:
        """Of the widest headline ratio; None where nothing is compared."""
        headline = self._cells[-1 if self._cells[-1].fixed is None else 0].name
        widths = [
            relative_half_width(self._ratios(candidate)[headline]) for candidate in self._candidates[1:]
        ]
        return max(widths, default=None)

    def _conditions(self) -> Conditions:
        other_cores = self._busy_core_seconds / self._seconds
        return Conditions(
            threads=self._most_threads,
            affinity=tuple(self._cores),
            rounds=self.rounds,
            seconds=self._seconds,
            half_width=self._half_width(),
            load_before=self._load_before,
            load_after=load_average(),
            other_cores=other_cores,
            busy=other_cores > BUSY_CORES,
        )


def benchmark(
    candidates: Mapping[str, Path],
    settings: BenchmarkSettings,
    lengths: Sequence[int] | None = None,
    *,
    own_lengths: Mapping[str, Sequence[int]] | None = None,
    threads: Mapping[str, Threads] | None = None,
    texts: Texts = (),
    seed: int = 0,
    trust_remote_code: bool = False,
    most_rounds: int | None = None,
) -> list[CandidateTimings]:
    """Time ``candidates`` against the first of them, the baseline.

    Args:
        candidates: Name to model folder, export folder or .onnx file.
        settings: Rounds or a budget, threads, shapes.
        lengths: Token counts of the data's rows; given, a cell ``data`` times sentences of these lengths one by one.
        own_lengths: Those of the same rows for candidates whose tokenizer is not the baseline's; by name.
        threads: Of candidates that have others than the settings say; by name.
        texts: The data's rows, to time each candidate's tokenizer with.
        seed: Of the order of candidates and of the made-up inputs.
        trust_remote_code: Allow code from a model's own folder to run.
        most_rounds: Rounds at which a budget ends too.

    Returns:
        One record per candidate, in the order given. Tokenizer time stands apart and in no latency.

    Raises:
        ConfigError: Nothing to time. InputError: a candidate cannot be opened. WorkError: a worker died.
    """
    measurement = Measurement(
        candidates,
        settings,
        lengths,
        own_lengths=own_lengths,
        threads=threads,
        seed=seed,
        trust_remote_code=trust_remote_code,
    )
    measurement.run(most_rounds)
    timings = measurement.timings()
    if busy := busy_note(timings[0].other_cores or 0.0):
        warn(busy)
    return [
        timing.model_copy(update={"tokenizer_ms": tokenizer_ms(Path(timing.path), texts)})
        for timing in timings
    ]

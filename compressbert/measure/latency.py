"""Latency of several candidates, interleaved: every candidate in its own process, one timed at a time,
round after round.

In each round and for each shape the candidates run one after another in random order, the baseline among
them, so what disturbs the machine for a moment disturbs neighbours alike. Speed-ups are ratios within a
round (`statistics.py`).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from compressbert.config.schema import BenchmarkSettings
from compressbert.errors import ConfigError
from compressbert.measure.client import WorkerProcess
from compressbert.measure.neighbours import Neighbours, busy_note
from compressbert.measure.statistics import median_interval, ratio_by_round_interval
from compressbert.progress import note, track, warn
from compressbert.results.measured import CandidateTimings, cell_name
from compressbert.results.record import LatencyCell, MemoryFacts

ROUND_MS = 250.0  # what one candidate may spend on one cell in one round
_MOST_CALLS = 400
_MOST_PASSES = 10  # over the sentences of a round, for models so small that one pass is over in a blink
_FEWEST_SENTENCES = 16


@dataclass(frozen=True)
class Cell:
    """A shape to time: ``lengths`` in order; ``fixed`` is the length, or None for the data's own."""

    batch: int
    fixed: int | None
    lengths: tuple[int, ...]

    @property
    def name(self) -> str:
        """The cell's key in reports."""
        return cell_name(self.batch, self.fixed)


@dataclass
class _Candidate:
    name: str
    path: Path
    worker: WorkerProcess
    calls: dict[str, int] = field(default_factory=dict)  # calls per round, by cell
    rounds: dict[str, list[list[float]]] = field(
        default_factory=dict
    )  # by cell: milliseconds of each call of each round

    def medians(self, cell: str) -> list[float]:
        return [float(np.median(calls)) for calls in self.rounds[cell]]


def typical_lengths(lengths: Sequence[int], count: int) -> tuple[int, ...]:
    """``count`` lengths that stand for all: evenly spaced quantiles, so no luck of the draw."""
    ordered = np.sort(np.asarray(lengths))
    places = (np.arange(count) + 0.5) / count * len(ordered)
    return tuple(int(length) for length in ordered[places.astype(int)])


def _cells(settings: BenchmarkSettings, lengths: Sequence[int] | None, longest: int | None) -> list[Cell]:
    """The shapes that every candidate can take: those up to ``longest`` tokens."""
    cells = [Cell(batch, length, (length,)) for batch, length in settings.cells]
    if longest is not None:
        too_long = [cell.name for cell in cells if cell.lengths[0] > longest]
        if too_long:
            note(f"Not timed, since a model takes at most {longest} tokens: {', '.join(too_long)}.")
        cells = [cell for cell in cells if cell.name not in too_long]
    if lengths is not None and len(lengths):
        cut = np.minimum(np.asarray(lengths), longest) if longest is not None else lengths
        cells.append(Cell(1, None, typical_lengths(cut, settings.sentences)))
    if not cells:
        raise ConfigError(
            "No shape is left to time.", hint="Give data, or benchmark.cells that the models can take."
        )
    return cells


def _warm_up(candidates: Sequence[_Candidate], cells: Sequence[Cell], warmup: int, seed: int) -> list[Cell]:
    """Warm every candidate up and settle how many calls a round holds; returns the cells to time."""
    share = max(2, -(-warmup // len(cells)))  # warm-up calls are spread over the cells
    settled = []
    for cell in cells:
        spent = {}
        for candidate in candidates:
            sample = cell.lengths if cell.fixed is not None else typical_lengths(cell.lengths, share)
            times = candidate.worker.time(batch=cell.batch, lengths=sample, calls=share, seed=seed)
            spent[candidate.name] = float(np.median(times))
            candidate.calls[cell.name] = int(np.clip(ROUND_MS / spent[candidate.name], 1, _MOST_CALLS))
        if cell.fixed is None:  # all candidates run the same sentences, so the slowest one sets their number
            bearable = int(np.clip(2 * ROUND_MS / max(spent.values()), _FEWEST_SENTENCES, len(cell.lengths)))
            count = min(bearable, len(cell.lengths))
            cell = Cell(1, None, typical_lengths(cell.lengths, count))  # noqa: PLW2901 - the cell as settled
            for candidate in candidates:
                passes = int(np.clip(ROUND_MS / (count * spent[candidate.name]), 1, _MOST_PASSES))
                candidate.calls[cell.name] = count * passes
        settled.append(cell)
    return settled


def _run_rounds(candidates: Sequence[_Candidate], cells: Sequence[Cell], rounds: int, seed: int) -> None:
    shuffler = random.Random(seed)
    with track("benchmark", total=rounds * len(cells) * len(candidates), unit="timings") as task:
        for _ in range(rounds):
            for cell in cells:
                lengths = shuffler.sample(cell.lengths, len(cell.lengths))
                for candidate in shuffler.sample(candidates, len(candidates)):
                    times = candidate.worker.time(
                        batch=cell.batch, lengths=lengths, calls=candidate.calls[cell.name], seed=seed
                    )
                    candidate.rounds.setdefault(cell.name, []).append(times)
                    task.advance(1, model=candidate.name, cell=cell.name, ms=float(np.median(times)))


def _latency_cell(candidate: _Candidate, cell: Cell, threads: int) -> LatencyCell:
    calls = np.concatenate([np.asarray(times) for times in candidate.rounds[cell.name]])
    middle = median_interval(candidate.medians(cell.name))
    return LatencyCell(
        runtime=candidate.worker.loaded.runtime,
        threads=threads,
        batch=cell.batch,
        length=cell.fixed,
        p50_ms=middle.value,
        p95_ms=float(np.percentile(calls, 95)),
        low=middle.low,
        high=middle.high,
        runs=len(calls),
    )


def _timings(
    candidate: _Candidate,
    baseline: _Candidate,
    cells: Sequence[Cell],
    threads: int,
    other_cores: float,
) -> CandidateTimings:
    ratios = {
        cell.name: ratio_by_round_interval(baseline.medians(cell.name), candidate.medians(cell.name))
        for cell in cells
        if candidate is not baseline
    }
    return CandidateTimings(
        name=candidate.name,
        path=str(candidate.path),
        runtime=candidate.worker.loaded.runtime,
        threads=threads,
        load_ms=candidate.worker.loaded.load_ms,
        cells=tuple(_latency_cell(candidate, cell, threads) for cell in cells),
        speedup_by_cell=ratios,
        memory=MemoryFacts(peak_rss_mb=candidate.worker.peak_rss_bytes() / 1e6),
        other_cores=other_cores,
    )


def benchmark(
    candidates: Mapping[str, Path],
    settings: BenchmarkSettings,
    lengths: Sequence[int] | None = None,
    *,
    seed: int = 0,
    cores: Sequence[int] | None = None,
    trust_remote_code: bool = False,
) -> list[CandidateTimings]:
    """Time ``candidates`` against the first of them, the baseline.

    Args:
        candidates: Name to model folder, export folder or .onnx file.
        settings: Rounds, threads, shapes.
        lengths: Token counts of the data's rows; given, a cell ``data`` times sentences of these lengths
        one by one. seed: Of the order of candidates and of the made-up inputs. cores: Bind every worker to
        these cores. trust_remote_code: Allow code from a model's own folder to run.

    Returns:
        One record per candidate, in the order given. Tokenizer time is not part of any figure.

    Raises:
        ConfigError: Nothing to time. InputError: a candidate cannot be opened. WorkError: a worker died.
    """
    if not candidates:
        raise ConfigError("Nothing to benchmark: no model was given.", hint="Give at least one model.")
    with ExitStack() as stack:
        running = []
        for name, path in candidates.items():
            worker = WorkerProcess(
                Path(path), threads=settings.threads, cores=cores, trust_remote_code=trust_remote_code
            )
            running.append(_Candidate(name, Path(path), stack.enter_context(worker)))
        limits = [c.worker.loaded.max_length for c in running if c.worker.loaded.max_length is not None]
        cells = _cells(settings, lengths, min(limits, default=None))
        cells = _warm_up(running, cells, settings.warmup, seed)
        neighbours = Neighbours()
        _run_rounds(running, cells, settings.rounds, seed)
        other_cores = neighbours.cores()
        if busy := busy_note(other_cores):
            warn(busy)
        return [
            _timings(candidate, running[0], cells, settings.threads, other_cores) for candidate in running
        ]

"""Worker process that loads one artefact and times it: ``python -m compressbert.measure.worker``.

It reads one JSON request a line on stdin and writes one JSON answer a line on stdout. Whatever a library
prints goes to stderr, so that it cannot break the protocol. End of input ends the process.

    {"do": "load", "path": P, "threads": 1, "spinning": false, "cores": [0] | null, "trust_remote_code": false}
        -> {"load_ms", "first_ms", "peak_rss_bytes", "runtime", "input_names", "vocab_size", "max_length"}
           first_ms: one text of 32 tokens, or of as many as the model takes, right after opening
    {"do": "warm", "batch": 1, "lengths": [32], "calls": 20, "seed": 0, "padded": false}
        -> {"steady", "calls", "core_ms"}    at least so many calls, and until they take equally long
    {"do": "time", "batch": 1, "lengths": [32], "calls": 50, "seed": 0, "padded": false}
        -> {"elapsed": [ms of each call], "on_core": [...]}    goes through the lengths in order, again and again;
           padded: each call takes one batch with a text of each length
    {"do": "memory"} -> {"peak_rss_bytes", "run_rss_bytes"}
           the second since the artefact was open; null where the system cannot tell
    {"do": "quit"}   -> {}

A failure that compressbert reports is answered as {"error", "kind", "hint"}; any other ends the process.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from compressbert.errors import CompressbertError, InputError
from compressbert.measure.memory import forget_peak, peak_rss_bytes
from compressbert.measure.runners import Arrays, Limits, Runner, open_runner

_FIRST_ID, _LAST_ID = 5, 1000  # past the special tokens, inside any vocabulary
_FIRST_LENGTH = 32  # tokens of the text that a fresh process answers first
_WINDOW_MS = 200.0  # of a warm-up
_MOST_WINDOWS = 12
_STEADY = 0.05  # two windows that differ by less are alike


def random_inputs(
    names: Sequence[str], lengths: Sequence[int], *, limits: Limits, seed: int
) -> dict[str, NDArray[np.int64]]:
    """Inputs of random word pieces, one text of each length, padded on the right to the longest.

    Returns:
        One int64 array (texts, longest) for each of ``names``.
    """
    batch, length = len(lengths), max(lengths)
    top = min(limits.vocab_size or _LAST_ID, _LAST_ID)
    ids = np.random.default_rng([seed, length]).integers(min(_FIRST_ID, top - 1), top, size=(batch, length))
    mask = (np.arange(length) < np.asarray(lengths)[:, None]).astype(np.int64)
    filled = {
        "input_ids": np.where(mask == 1, ids, limits.pad_id),
        "attention_mask": mask,
        "token_type_ids": np.zeros_like(ids),
        "position_ids": np.broadcast_to(np.arange(length), ids.shape).copy(),
    }
    unknown = [name for name in names if name not in filled]
    if unknown:
        raise InputError(
            f"The model takes an input that cannot be made up for timing: {', '.join(unknown)}.",
            hint=f"Export it with no inputs but {', '.join(filled)}.",
        )
    return {name: filled[name] for name in names}


@dataclass(frozen=True)
class Times:
    """Milliseconds of each call: by the clock, and those in which it had a core.

    The second is processor time, at most the time by the clock: for one thread, what is left when waiting for
    a core that another process holds is taken away.
    """

    elapsed: list[float]
    on_core: list[float]


def timed(runner: Runner, inputs: Sequence[Arrays]) -> Times:
    """Times of one call for each of ``inputs``."""
    elapsed, on_core = [], []
    for arrays in inputs:
        start, start_on_core = time.perf_counter(), time.process_time()
        runner.predict(arrays)
        used = time.process_time() - start_on_core
        spent = time.perf_counter() - start
        elapsed.append(spent * 1e3)
        on_core.append(min(used, spent) * 1e3)
    return Times(elapsed, on_core)


def time_calls(
    runner: Runner, *, batch: int, lengths: Sequence[int], calls: int, seed: int, padded: bool = False
) -> Times:
    """Times of each call. Inputs are made beforehand; one call goes untimed to refill the caches."""
    inputs = _inputs(runner, batch, lengths, calls, seed, padded=padded)
    runner.predict(inputs[0])
    return timed(runner, inputs)


@dataclass(frozen=True)
class Warmth:
    """How a warm-up ended: ``core_ms`` is the median call of its last window."""

    steady: bool
    calls: int
    core_ms: float


def warm_up(
    runner: Runner, *, batch: int, lengths: Sequence[int], calls: int, seed: int, padded: bool = False
) -> Warmth:
    """Call until two windows of calls in a row agree within a few per cent, and ``calls`` times at least.

    A window is half of ``calls``, fewer where calls are slow. After twelve windows it is given up: not steady.
    """
    inputs = _inputs(runner, batch, lengths, max(1, -(-calls // 2)), seed, padded=padded)
    first = timed(runner, inputs[:1]).on_core[0]
    inputs = inputs[: max(1, int(_WINDOW_MS / first))]
    made, before = 1, first
    for _ in range(_MOST_WINDOWS):
        window = float(np.median(timed(runner, inputs).on_core))
        made += len(inputs)
        if abs(window / before - 1) <= _STEADY and (made >= calls or len(inputs) * window >= _WINDOW_MS / 2):
            return Warmth(True, made, window)
        before = window
    return Warmth(False, made, before)


def _inputs(
    runner: Runner, batch: int, lengths: Sequence[int], calls: int, seed: int, *, padded: bool = False
) -> list[Arrays]:
    batches = [tuple(lengths)] if padded else [(length,) * batch for length in lengths]
    distinct = {
        texts: random_inputs(runner.input_names, texts, limits=runner.limits, seed=seed) for texts in batches
    }
    return [distinct[batches[call % len(batches)]] for call in range(calls)]


def _bind_threads(cores: Sequence[int]) -> None:
    """Let every thread that this process has, and those that they start, run on ``cores`` only."""
    tasks = Path("/proc/self/task")
    threads = [int(task.name) for task in tasks.iterdir()] if tasks.is_dir() else [0]
    for thread in threads:
        try:
            os.sched_setaffinity(thread, cores)
        except ProcessLookupError:  # it has ended meanwhile
            continue


class Worker:
    """Answers requests about the one artefact it loaded."""

    def __init__(self) -> None:
        self._runner: Runner | None = None
        self._load_rss_bytes = 0
        self._peak_is_of_runs = False

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request; raises CompressbertError for failures to be reported."""
        kind = request.pop("do")
        if kind == "load":
            return self._load(**request)
        if kind == "memory":
            return self._memory()
        if kind == "warm" and self._runner is not None:
            return asdict(warm_up(self._runner, **request))
        if kind == "time" and self._runner is not None:
            return asdict(time_calls(self._runner, **request))
        raise InputError(
            f"The worker cannot do {kind!r} now; it knows load, then warm, time, memory and quit."
        )

    def _memory(self) -> dict[str, int | None]:
        peak = peak_rss_bytes()
        return {
            "peak_rss_bytes": max(peak, self._load_rss_bytes),
            "run_rss_bytes": peak if self._peak_is_of_runs else None,
        }

    def _load(
        self,
        path: str,
        threads: int,
        spinning: bool = False,
        cores: list[int] | None = None,
        trust_remote_code: bool = False,
    ) -> dict[str, Any]:
        start = time.perf_counter()
        self._runner = open_runner(
            Path(path), threads=threads, spinning=spinning, trust_remote_code=trust_remote_code
        )
        load_ms = (time.perf_counter() - start) * 1e3
        if cores is not None:
            # Not before: onnxruntime 1.32 does without AMX if it starts on a single core.
            _bind_threads(cores)
        self._load_rss_bytes = peak_rss_bytes()
        self._peak_is_of_runs = forget_peak()
        length = min(self._runner.limits.max_length or _FIRST_LENGTH, _FIRST_LENGTH)
        (first_ms,) = timed(self._runner, _inputs(self._runner, 1, [length], 1, 0)).elapsed
        return {
            "load_ms": load_ms,
            "first_ms": first_ms,
            "peak_rss_bytes": self._load_rss_bytes,
            "runtime": self._runner.runtime,
            "input_names": list(self._runner.input_names),
            "vocab_size": self._runner.limits.vocab_size,
            "max_length": self._runner.limits.max_length,
        }


def _requests(lines: TextIO) -> Iterator[dict[str, Any]]:
    for line in lines:
        request = json.loads(line)
        if request["do"] == "quit":
            return
        yield request


def main() -> None:
    """Serve requests until ``quit`` or the end of input."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        worker = Worker()
        for request in _requests(sys.stdin):
            try:
                reply = worker.answer(request)
            except CompressbertError as error:
                reply = {"error": error.message, "kind": type(error).__name__, "hint": error.hint}
            print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    main()

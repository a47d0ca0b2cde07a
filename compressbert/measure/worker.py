"""Worker process that loads one artefact and times it: ``python -m compressbert.measure.worker``.

It reads one JSON request a line on stdin and writes one JSON answer a line on stdout. Whatever a library
prints goes to stderr, so that it cannot break the protocol. End of input ends the process.

    {"do": "load", "path": P, "threads": 1, "cores": [0] | null, "trust_remote_code": false}
        -> {"load_ms", "peak_rss_bytes", "runtime", "input_names", "vocab_size", "max_length"}
    {"do": "time", "batch": 1, "lengths": [32] , "calls": 50, "seed": 0}
        -> {"ms": [one per call]}        goes through the lengths in order, again and again
    {"do": "memory"} -> {"peak_rss_bytes"}
    {"do": "quit"}   -> {}

A failure that compressbert reports is answered as {"error", "kind", "hint"}; any other ends the process.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from compressbert.errors import CompressbertError, InputError
from compressbert.measure.memory import peak_rss_bytes
from compressbert.measure.runners import Limits, Runner, open_runner

_FIRST_ID, _LAST_ID = 5, 1000  # past the special tokens, inside any vocabulary


def random_inputs(
    names: Sequence[str], batch: int, length: int, *, limits: Limits, seed: int
) -> dict[str, NDArray[np.int64]]:
    """Inputs (batch, length) of random word pieces without padding, one int64 array for each of ``names``."""
    top = min(limits.vocab_size or _LAST_ID, _LAST_ID)
    ids = np.random.default_rng([seed, length]).integers(min(_FIRST_ID, top - 1), top, size=(batch, length))
    filled = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
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


def time_calls(runner: Runner, *, batch: int, lengths: Sequence[int], calls: int, seed: int) -> list[float]:
    """Milliseconds of each call. Inputs are made beforehand; one call goes untimed to refill the caches."""
    distinct = {
        length: random_inputs(runner.input_names, batch, length, limits=runner.limits, seed=seed)
        for length in lengths
    }
    inputs = [distinct[lengths[call % len(lengths)]] for call in range(calls)]
    runner.predict(inputs[0])
    spent = []
    for arrays in inputs:
        start = time.perf_counter()
        runner.predict(arrays)
        spent.append((time.perf_counter() - start) * 1e3)
    return spent


class Worker:
    """Answers requests about the one artefact it loaded."""

    def __init__(self) -> None:
        self._runner: Runner | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request; raises CompressbertError for failures to be reported."""
        kind = request.pop("do")
        if kind == "load":
            return self._load(**request)
        if kind == "memory":
            return {"peak_rss_bytes": peak_rss_bytes()}
        if kind == "time" and self._runner is not None:
            return {"ms": time_calls(self._runner, **request)}
        raise InputError(f"The worker cannot do {kind!r} now; it knows load, then time, memory and quit.")

    def _load(
        self, path: str, threads: int, cores: list[int] | None = None, trust_remote_code: bool = False
    ) -> dict[str, Any]:
        if cores is not None:
            os.sched_setaffinity(0, cores)
        start = time.perf_counter()
        self._runner = open_runner(Path(path), threads=threads, trust_remote_code=trust_remote_code)
        return {
            "load_ms": (time.perf_counter() - start) * 1e3,
            "peak_rss_bytes": peak_rss_bytes(),
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

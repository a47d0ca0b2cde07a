"""The other end of a worker: starts the process, asks, and turns its failures into ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from compressbert import errors
from compressbert.errors import CompressbertError, WorkError
from compressbert.measure.worker import Times, Warmth

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_TAIL_LINES = 15


@dataclass(frozen=True)
class Loaded:
    """What a worker said about the artefact it loaded."""

    runtime: str
    load_ms: float
    first_ms: float
    load_rss_bytes: int
    vocab_size: int | None
    max_length: int | None


@dataclass(frozen=True)
class Memory:
    """Largest resident sets of a worker: of its whole life, and since its artefact was open (None: unknown)."""

    peak_rss_bytes: int
    run_rss_bytes: int | None


def _environment(threads: int) -> dict[str, str]:
    source = str(Path(errors.__file__).resolve().parents[1])
    inherited = os.environ.get("PYTHONPATH")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([source, inherited] if inherited else [source]),
    }
    environment |= dict.fromkeys(_THREAD_VARIABLES, str(threads))
    return environment | {"TOKENIZERS_PARALLELISM": "false"}


class WorkerProcess:
    """A running worker with one artefact loaded; a context manager that ends the process."""

    def __init__(
        self,
        path: Path,
        *,
        threads: int,
        spinning: bool = False,
        cores: Sequence[int] | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        self._path = path
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe nobody reads would block the worker
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "compressbert.measure.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=_environment(threads),
            text=True,
            encoding="utf-8",
        )
        try:
            reply = self._ask(
                do="load",
                path=str(path),
                threads=threads,
                spinning=spinning,
                cores=None if cores is None else list(cores),
                trust_remote_code=trust_remote_code,
            )
        except BaseException:
            self.close()
            raise
        self.loaded = Loaded(
            runtime=reply["runtime"],
            load_ms=reply["load_ms"],
            first_ms=reply["first_ms"],
            load_rss_bytes=reply["peak_rss_bytes"],
            vocab_size=reply["vocab_size"],
            max_length=reply["max_length"],
        )

    def warm_up(
        self, *, batch: int, lengths: Sequence[int], calls: int, seed: int, padded: bool = False
    ) -> Warmth:
        """Call at least ``calls`` times, and until calls take equally long."""
        request = {"batch": batch, "lengths": list(lengths), "calls": calls, "seed": seed, "padded": padded}
        return Warmth(**self._ask(do="warm", **request))

    def time(
        self, *, batch: int, lengths: Sequence[int], calls: int, seed: int, padded: bool = False
    ) -> Times:
        """Times of each of ``calls`` calls, going through ``lengths`` in order again and again.

        ``padded``: every call takes one batch with a text of each length instead.
        """
        request = {"batch": batch, "lengths": list(lengths), "calls": calls, "seed": seed, "padded": padded}
        return Times(**self._ask(do="time", **request))

    def memory(self) -> Memory:
        """Largest resident sets of the worker so far."""
        return Memory(**self._ask(do="memory"))

    def _ask(self, **request: Any) -> dict[str, Any]:
        if self._process.stdin is None or self._process.stdout is None:
            raise WorkError(f"The worker for {self._path} has no pipes.")
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise self._death()
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            kind: type[CompressbertError] = getattr(errors, reply["kind"])
            raise kind(reply["error"], hint=reply["hint"])
        return reply

    def _death(self) -> WorkError:
        code = self._process.wait()
        self._stderr.seek(0)
        tail = self._stderr.read().decode("utf-8", "replace").splitlines()[-_TAIL_LINES:]
        return WorkError(
            f"The worker that ran {self._path} ended with status {code}.\n" + "\n".join(tail),
            hint="Status -9 usually means that memory ran out." if code == -9 else "",
        )

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                try:
                    pipe.close()
                except BrokenPipeError:  # it died with our last request in the pipe
                    continue
        try:
            self._process.wait(timeout=5)  # it quits by itself at the end of input
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stderr.close()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
        self.close()

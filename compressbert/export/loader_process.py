"""Asking another program for its answers: one process per loader and artefact, perhaps in an environment of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from compressbert.export import environments
from compressbert.export.probes import Inputs

Array = NDArray[np.float32]
Text = tuple[str, ...]  # one text, or two of a pair

SCRIPTS = Path(__file__).resolve().parent / "loader_scripts"
_SECONDS = 300  # a loader that takes longer has hung
_TAIL_LINES = 3


class Absent(Exception):
    """A loader that is not installed; the text says how to get it."""


class Unfit(Exception):
    """An artefact that says itself that it is not for this loader; the text says what is."""


class Failed(Exception):
    """A loader that did not open or run the artefact; the text says why."""


@dataclass(frozen=True)
class Answers:
    """What a loader gave.

    Attributes:
        outputs: Every output by its name, for every batch.
        tokens: Token ids of every text, if the loader brings a tokenizer.
        version: Of the loader.
    """

    outputs: list[dict[str, Array]]
    tokens: list[list[int]] | None = None
    version: str = ""


def ask(
    command: Sequence[str], artefact: Path, batches: Sequence[Inputs], texts: Sequence[Text], *options: str
) -> Answers:
    """Run a loader's script in a process of its own.

    Raises:
        Failed: It ended with an error, gave no answer in time or no readable one.
    """
    with tempfile.TemporaryDirectory() as scratch:
        inputs, outputs = Path(scratch) / "inputs.safetensors", Path(scratch) / "outputs.safetensors"
        flat = {f"{i:04}.{key}": value for i, batch in enumerate(batches) for key, value in batch.items()}
        save_file(flat, inputs, metadata={"texts": json.dumps(texts)})
        words = [*command, str(artefact.resolve()), str(inputs), str(outputs), *options]
        quiet = {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(Path(scratch) / "modules")}
        try:
            done = subprocess.run(
                words, cwd=scratch, env=os.environ | quiet, timeout=_SECONDS, check=False,
                capture_output=True, text=True, errors="replace",
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise Failed(f"gave no answer in {_SECONDS} s") from error
        except OSError as error:
            raise Failed(f"{command[0]} cannot be started: {error.strerror}") from error
        if done.returncode:
            raise Failed(_reason(done.stderr, done.returncode))
        try:
            return _read(outputs)
        except (OSError, SafetensorError, TypeError, KeyError) as error:
            raise Failed(f"left no readable answer: {error}") from error


def _reason(stderr: str, code: int) -> str:
    """The end of what a failed process said: the exception, without the traceback before it."""
    lines = [line.rstrip() for line in stderr.splitlines() if line.strip()]
    frames = [index for index, line in enumerate(lines) if line.startswith("  ")]
    said = lines[frames[-1] + 1 :][:_TAIL_LINES] if frames else []
    tail = "\n".join(said or lines[-_TAIL_LINES:])
    if code < 0:
        return f"ended by signal {-code}" + (f": {tail}" if tail else "")
    return tail or f"ended with {code}"


def _read(file: Path) -> Answers:
    with safe_open(str(file), "np") as answers:
        names = sorted(answers.keys())
        version = (answers.metadata() or {}).get("version", "")
        outputs: dict[str, dict[str, Array]] = {}
        for batch, _, output in (name.partition(".") for name in names if not name.startswith("text.")):
            outputs.setdefault(batch, {})[output] = answers.get_tensor(f"{batch}.{output}")
        tokens = [answers.get_tensor(name).tolist() for name in names if name.startswith("text.")]
    return Answers([outputs[batch] for batch in sorted(outputs)], tokens or None, version)


def python(script: str, package: str, environment: str) -> list[str]:
    """The command of a Python loader: in its own environment, or in this one where the package is installed."""
    folder = environments.find(environment) if environment else None
    if folder is not None:
        interpreter = environments.python_of(folder)
    elif package and _installed(package):
        interpreter = sys.executable
    else:
        hint = environments.how_to_get(environment) if environment else f"pip install {package}"
        raise Absent(f"{package or environment} is not installed; {hint}")
    return [interpreter, "-P", str(SCRIPTS / script)]


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # the parent of a dotted name is missing
        return False

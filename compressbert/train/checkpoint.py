"""What a training stage leaves on disk: checkpoints that survive a kill at any moment, and the final weights.

    work/<stage>/checkpoint-00000500/   weights, optimizer state and progress after 500 steps
                 best-00001000/         the best epoch's weights so far, when those are to be kept
                 done/                  final weights and log; its presence means that the stage is finished

Each folder is written under a temporary name, flushed to the disk and renamed, and only then are older ones
removed: at every moment the newest one is valid. Tensors are safetensors, the rest is JSON; nothing is
pickled.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from compressbert import progress
from compressbert.errors import WorkError
from compressbert.train.optim import named_trainable

WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"


@dataclass
class Progress:
    """How far a stage is; with the weights and the optimizer's state, all that an exact resume needs.

    Attributes:
        step: Optimizer steps done.
        examples: Training examples seen by this process.
        seconds: Wall time so far, over all runs.
        log: Logged points, each the mean since the one before: step, loss, its parts, learning_rate.
        epochs: Validation results: epoch, step and the task's primary metric under its name.
        sums: Sums of the loss parts since the last logged point.
        summed_steps: Number of steps in ``sums``.
    """

    step: int = 0
    examples: int = 0
    seconds: float = 0.0
    log: list[dict[str, float]] = field(default_factory=list)
    epochs: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    summed_steps: int = 0


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Every distinct parameter and buffer by its first name; tied ones once, as safetensors wants them."""
    return {name: t.detach() for name, t in (*module.named_parameters(), *module.named_buffers())}


def copy_into(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Overwrite the tensors of ``module`` in place with saved ones of the same names and shapes."""
    with torch.no_grad():
        for name, tensor in tensors_of(module).items():
            tensor.copy_(tensors[name])


def fingerprint(tensors: Mapping[str, Tensor], *facts: object) -> str:
    """SHA-256 over the names, types, shapes and bytes of tensors, and over ``facts`` (JSON-able)."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def optimizer_tensors(module: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as flat tensors named ``<entry>/<parameter>``."""
    return {
        f"{entry}/{name}": value
        for name, parameter in named_trainable(module)
        for entry, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(module: nn.Module, optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    parameters = dict(named_trainable(module))
    order = {id(p): i for i, p in enumerate(p for group in optimizer.param_groups for p in group["params"])}
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        entry, name = key.split("/", 1)
        state.setdefault(order[id(parameters[name])], {})[entry] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


class StageFolder:
    """The folder of one training stage, bound to a key: what was written under another key is discarded."""

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.key = key

    def prepare(self) -> None:
        """Create the folder; drop leftovers of a kill and whatever was written under another key."""
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            for leftover in self.path.glob("*.partial"):
                shutil.rmtree(leftover)
            if any(self._state(folder)["key"] != self.key for folder in self.path.iterdir()):
                progress.note(
                    f"{self.path.name}: settings, data or model changed since the last run; starting over"
                )
                self._remove_all("*")
            if self.done():
                self._remove_all("checkpoint-*", "best-*")

    def done(self) -> Path | None:
        """The finished weights, if the stage was completed."""
        done = self.path / "done"
        return done if done.is_dir() else None

    def latest(self) -> Path | None:
        """The newest checkpoint."""
        return max(self.path.glob("checkpoint-*"), default=None)

    def read(self, folder: Path, module: nn.Module) -> Progress:
        """Load the weights of a checkpoint (or of ``done``) into ``module`` and return its progress."""
        with _unreadable(folder):
            copy_into(module, load_file(folder / WEIGHTS))
            return Progress(**self._state(folder)["progress"])

    def read_optimizer(self, folder: Path, module: nn.Module, optimizer: Optimizer) -> None:
        """Load the optimizer's state of a checkpoint."""
        with _unreadable(folder):
            restore_optimizer(module, optimizer, load_file(folder / OPTIMIZER))

    def write_checkpoint(self, module: nn.Module, optimizer: Optimizer, state: Progress) -> None:
        """Write a checkpoint, then remove those it replaces."""
        files = {WEIGHTS: tensors_of(module), OPTIMIZER: optimizer_tensors(module, optimizer)}
        name = f"checkpoint-{state.step:08d}"
        self._write(name, files, state)
        for older in self.path.glob("checkpoint-*"):
            if older.name != name:
                _remove(older)

    def write_best(self, module: nn.Module, state: Progress) -> None:
        """Write the best weights so far. Until the next checkpoint, the older ones may still be needed."""
        self._write(f"best-{state.step:08d}", {WEIGHTS: tensors_of(module)}, state)

    def drop_worse(self, best_step: int) -> None:
        """Remove best weights other than those of ``best_step``."""
        for folder in self.path.glob("best-*"):
            if folder.name != f"best-{best_step:08d}":
                _remove(folder)

    def read_best(self, best_step: int, module: nn.Module) -> None:
        """Load the weights that `write_best` wrote at ``best_step``."""
        self.read(self.path / f"best-{best_step:08d}", module)

    def write_done(self, module: nn.Module, state: Progress) -> None:
        """Mark the stage finished; its checkpoints are no longer needed."""
        self._write("done", {WEIGHTS: tensors_of(module)}, state)
        self._remove_all("checkpoint-*", "best-*")

    def _remove_all(self, *patterns: str) -> None:
        for folder in [folder for pattern in patterns for folder in self.path.glob(pattern)]:
            _remove(folder)

    def _write(self, name: str, files: Mapping[str, dict[str, Tensor]], state: Progress) -> None:
        partial = self.path / f"{name}.partial"
        with disk_errors(self.path):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            for file, tensors in files.items():
                save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial / file)
            (partial / STATE).write_text(
                json.dumps({"key": self.key, "progress": asdict(state)}), encoding="utf-8"
            )
            for path in (*partial.iterdir(), partial):
                _flush(path)
            if (self.path / name).exists():
                shutil.rmtree(self.path / name)
            partial.rename(self.path / name)
            _flush(self.path)

    def _state(self, folder: Path) -> dict[str, Any]:
        with _unreadable(folder):
            state: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
            return state


def _remove(folder: Path) -> None:
    """Delete a folder. A kill meanwhile leaves a ``.partial``, never half a checkpoint under its own name."""
    shutil.rmtree(folder.rename(folder.with_name(f"{folder.name}.partial")))


def _flush(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk: a power cut must not undo a rename."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk or quota, as the system or safetensors report it, into a `WorkError`."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        found = re.search(r"os error (\d+)", str(error))  # safetensors 0.8 keeps the number in the text only
        code = error.errno if isinstance(error, OSError) else int(found[1]) if found else None
        if code not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise WorkError(
            f"no space left on the disk that holds {folder}",
            hint="Free some space and run the same command again; it goes on from its last checkpoint.",
        ) from error


@contextmanager
def _unreadable(folder: Path) -> Iterator[None]:
    """A checkpoint that exists but cannot be read was damaged from outside: say which one and what to do."""
    try:
        yield
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise WorkError(
            f"training checkpoint {folder} is damaged: {error}",
            hint=f"Remove {folder.parent} and run the command again.",
        ) from error

"""A tiny model, toy data and a loss, as a method would hand them to the loop."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compressbert import progress
from compressbert.config.schema import DataConfig, TaskKind, TrainConfig
from compressbert.data.batches import Batch
from compressbert.data.encode import Encoded, encode
from compressbert.data.read import read_split
from compressbert.model.handle import Model
from compressbert.tasks.base import Task, task_for
from compressbert.train.checkpoint import tensors_of
from compressbert.train.loop import FitResult, fit
from tests.tiny import tiny_network, tiny_tokenizer, toy_rows, write_rows

NAMES = ("negative", "positive")


def toy(
    folder: Path, *, rows: int = 60, kind: TaskKind = "sequence-classification", seed: int = 0
) -> tuple[Task, Encoded]:
    """Encoded toy sentences and their task."""
    file = folder / f"toy-{rows}-{seed}.jsonl"
    if not file.exists():  # another process may be reading it
        write_rows(file, toy_rows(rows, seed=seed))
    config = DataConfig(task=kind, train=str(file), labels=None if kind == "masked-lm" else ("0", "1"))
    names = () if kind == "masked-lm" else ("0", "1")
    task = task_for(config, names)
    return task, encode(
        read_split(config, "train", label_names=names or None), tiny_tokenizer(), task=task, max_length=32
    )


def tiny_model(**options: Any) -> Model:
    """A tiny BERT with dropout 0.1, as the stock config has it."""
    network = tiny_network(**options)
    return Model(network=network, tokenizer=tiny_tokenizer(), base_config=network.config.to_dict())


def task_loss(task: Task) -> Callable[[Model, Batch], dict[str, Tensor]]:
    """The loss `finetune` uses."""

    def loss(model: Model, batch: Batch) -> dict[str, Tensor]:
        assert batch.labels is not None
        return {"task": task.loss(model(**batch.inputs).logits, batch.labels)}

    return loss


def train(
    model: Model, folder: Path, *, rows: int = 60, settings: dict[str, Any] | None = None, **options: Any
) -> FitResult:
    """`fit` on toy sentences."""
    task, encoded = toy(folder, rows=rows)
    config = TrainConfig.model_validate(
        {"batch_size": 8, "learning_rate": 1e-3, "epochs": 2, **(settings or {})}
    )
    arguments: dict[str, Any] = {
        "seed": 0,
        "work": folder / "work",
        "stage": "train",
        "task": task,
        **options,
    }
    return fit(
        model, arguments.pop("encoded", encoded), arguments.pop("loss", task_loss(task)), config, **arguments
    )


def weights(*modules: nn.Module) -> dict[str, Tensor]:
    """A copy of all tensors."""
    return {
        f"{i}.{name}": t.clone() for i, module in enumerate(modules) for name, t in tensors_of(module).items()
    }


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class Notes(progress.Silent):
    """Keeps what is said to the user."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def state_of(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((folder / "state.json").read_text())["progress"]
    return state

"""A tiny trained model, its data and a run, for the tests of methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from compressbert.config.schema import DataConfig
from compressbert.data.encode import Encoded, encode
from compressbert.data.read import read_split
from compressbert.methods.base import Run
from compressbert.methods.knowledge import task_loss
from compressbert.model.checkpoint import load
from compressbert.model.handle import Model
from compressbert.tasks.base import Task, task_for
from tests.tiny import TAGS, question_rows, save_tiny, scored_pairs, tagged_rows, toy_rows, write_rows

ROWS = {
    "token-classification": tagged_rows,
    "question-answering": question_rows,
    "sentence-embedding": scored_pairs,
}

FAST = {"max_steps": 4, "batch_size": 16, "learning_rate": 1e-3, "precision": "fp32"}


def toy_model(folder: Path, family: str = "bert", *, head: str = "classification", **options: Any) -> Model:
    """A tiny stock model, loaded as any other."""
    stock = folder / f"{family}-{head}-{'-'.join(f'{key}={value}' for key, value in options.items())}"
    return load(stock if stock.is_dir() else save_tiny(stock, family, head=head, **options))


def toy_data(
    folder: Path, model: Model, *, rows: int = 64, task: str = "sequence-classification", seed: int = 0
) -> tuple[Task, Encoded]:
    """Toy sentences as token ids, and their task of any kind."""
    data = ROWS.get(task, toy_rows)(rows, seed=seed)
    for row in data:
        if task == "regression":
            row["label"] = row["label"] * 2.0 - 0.5
        elif task == "multi-label":
            row["label"] = ["positive", "long"][: 1 + row["label"]]
    file = write_rows(folder / f"{task}-{rows}-{seed}.jsonl", data)
    answers = {"stride": 4, "max_question": 8}
    config = DataConfig.model_validate(
        {"task": task, "train": str(file), "max_length": 32, "answers": answers}
    )
    split = read_split(config, "train", label_names=TAGS if task == "token-classification" else None)
    kind = task_for(config, split.label_names)
    return kind, encode(split, model.tokenizer, task=kind, max_length=32, cache=folder / "cache")


def toy_run(
    folder: Path, model: Model, *, task: str = "sequence-classification", rows: int = 64, **options: Any
) -> Run:
    """A run over toy data of a few fast steps."""
    kind, encoded = toy_data(folder, model, task=task, rows=rows)
    settings = {**FAST, **options.pop("settings", {})}
    return Run.create(
        task=kind, train=encoded, settings=settings, work=folder / options.pop("work", "work"), **options
    )


def trained(
    folder: Path, *, steps: int = 120, idle: Mapping[int, Sequence[int]] | None = None
) -> tuple[Model, Run]:
    """A model that has learned the toy task, and the run it learned in.

    Heads in ``idle``, {layer: heads}, may say next to nothing while it learns, so the others do the work.
    """
    model = toy_model(folder)
    run = toy_run(folder, model, rows=256, settings={"max_steps": steps, "epochs": 50}, work="teacher")
    layers = model.family.layers(model.network)

    def silence(step: int, total: int) -> None:
        with torch.no_grad():
            for layer, heads in (idle or {}).items():
                for head in heads:
                    layers[layer].attention_out.weight[:, head * 8 : head * 8 + 8].clamp_(-0.01, 0.01)

    silence(0, steps)
    run.fit(model, task_loss(run), stage="finetune", after_step=silence)
    return model, run


def trained_on(run: Run, model: Model, *, steps: int) -> Model:
    """``model`` after so many steps on the task of the run, whatever its kind."""
    longer = replace(run, settings=run.settings.model_copy(update={"max_steps": steps, "epochs": 100.0}))
    longer.fit(model, task_loss(longer), stage="finetune")
    return model


def logits(model: Model, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits of a padded batch, without gradients."""
    with torch.no_grad():
        return model(**inputs).logits


def weights(model: Model) -> dict[str, torch.Tensor]:
    """A copy of every tensor."""
    return {name: tensor.clone() for name, tensor in model.network.state_dict().items()}


def same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two copies are bit-identical."""
    return one.keys() == other.keys() and all(
        torch.equal(tensor, other[name]) for name, tensor in one.items()
    )

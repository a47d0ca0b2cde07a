"""What a student sees of its teacher, and the re-tune after a cut: distillation that methods share.

Tasks with one row of outputs per text read the teacher's outputs from a cache. Where there is one per token,
the teacher runs on each batch: for raw text because masks are drawn anew in every epoch, for tags and answers
because the outputs of all tokens would soon fill a disk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from compressbert.config.schema import TaskKind
from compressbert.data.alignment import matching_words
from compressbert.data.batches import Batch
from compressbert.errors import ConfigError
from compressbert.methods.base import MethodConfig, Run, labels_of
from compressbert.model.handle import Model
from compressbert.nn.losses import logit_mse, soft_target_loss
from compressbert.tasks.base import Task
from compressbert.train.loop import Loss
from compressbert.train.while_training import dropout_of

Soft = Literal["kl", "mse"]


@dataclass(frozen=True)
class Signals:
    """What a model says about a batch.

    Attributes:
        logits: (N, C), the rows that the task compares (`tasks.base.Task.signals`).
        hidden: The last layer's states, (M, H): of each text's first token, or where the task has outputs per
            token, of every token that is not padding; None unless asked for.
    """

    logits: Tensor
    hidden: Tensor | None


def teacher_signals(run: Run, *, hidden: bool) -> Callable[[Batch], Signals]:
    """Return the function that gives the teacher's signals for a batch, on the batch's device.

    Raises:
        ConfigError: The run has no teacher or no data.
    """
    run.require("Distillation", ("teacher", "data"))
    if run.required_task.per_token:
        return _live_teacher(run, hidden=hidden)
    teacher = run.required_teacher
    last = len(teacher.family.layers(teacher.network)) - 1
    cache = run.teacher_outputs(layers=(last,) if hidden else ())

    def cached(batch: Batch) -> Signals:
        device = batch.inputs["input_ids"].device
        states = cache.states(batch.examples)[:, 0].to(device) if hidden else None
        return Signals(cache.logits(batch.examples).to(device), states)

    return cached


def _live_teacher(run: Run, *, hidden: bool) -> Callable[[Batch], Signals]:
    teacher, task = run.required_teacher, run.required_task
    if run.teacher_rows is not None and (hidden or task.kind != "token-classification"):
        raise ConfigError(
            "the student cuts texts into other pieces than its teacher, so they cannot be compared piece by piece",
            hint="Use a method that compares texts or words, or a student with the teacher's vocabulary.",
        )

    def live(batch: Batch) -> Signals:
        teacher.network.to(batch.inputs["input_ids"].device)
        theirs = run.teacher_batch(batch)
        with torch.no_grad():
            _, signals = forward(teacher, theirs, task=task, hidden=hidden)
        if run.teacher_rows is None or batch.words is None or theirs.words is None:
            return signals
        return Signals(signals.logits[matching_words(batch.words, theirs.words)], None)

    return live


def forward(model: Model, batch: Batch, *, task: Task, hidden: bool) -> tuple[Tensor, Signals]:
    """Run ``model`` on a batch.

    Returns:
        Its logits as the task's loss takes them, (B, C) or (B, S, C), and its signals.
    """
    output = model(**batch.inputs, output_hidden_states=hidden)
    last = output.hidden_states[-1] if hidden else None  # (B, S, H)
    if last is not None:
        last = last[batch.inputs["attention_mask"].bool()] if task.per_token else last[:, 0]
    return output.logits, Signals(task.signals(output.logits, batch), last)


def soft_loss(kind: TaskKind, soft: Soft, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the loss between logits, both (N, C): on soft targets, or their squared difference."""
    if soft == "mse":
        return logit_mse(student, teacher)
    return soft_target_loss(kind, student, teacher, temperature)


def retune_loss(
    run: Run, *, temperature: float = 2.0, soft_weight: float = 1.0, hard_weight: float = 1.0
) -> Loss:
    """Return soft_weight · T² · KL(dense ‖ cut) + hard_weight · task loss; dense is ``run.teacher``.

    Labels are read only if they have weight.
    """
    teacher = teacher_signals(run, hidden=False)
    task = run.required_task

    def loss(model: Model, batch: Batch) -> dict[str, Tensor]:
        logits, signals = forward(model, batch, task=task, hidden=False)
        soft = soft_loss(task.kind, "kl", signals.logits, teacher(batch).logits, temperature)
        parts = {"soft": soft_weight * soft}
        if hard_weight:
            parts["task"] = hard_weight * task.loss(logits, labels_of(batch))
        return parts

    return loss


def retune(
    model: Model,
    dense: Model,
    run: Run,
    *,
    epochs: float,
    config: MethodConfig,
    hard_weight: float = 1.0,
    dropout: float | None = None,
) -> None:
    """Let a cut model recover, in place: training on the task with its dense self as teacher.

    Args:
        model: What was cut.
        dense: The model before the cut; the teacher unless the run has another one.
        run: Data, settings and work folder.
        epochs: Passes over the training data; 0 leaves the model as it is.
        config: What made the cut; another cut is re-tuned anew.
        hard_weight: Weight of the task's own loss beside the soft targets.
        dropout: Dropout in this training; None: the model's own.

    Raises:
        ConfigError: There is no training data.
    """
    if epochs == 0:
        return
    run.require("A re-tune", ("data",))
    run = run.with_teacher(dense)
    loss = retune_loss(run, hard_weight=hard_weight)
    with dropout_of(model, dropout):
        run.fit(model, loss, stage="retune", epochs=epochs, depends_on=config)


def task_loss(run: Run) -> Loss:
    """Return the task's own loss as a training loss."""
    task = run.required_task

    def loss(model: Model, batch: Batch) -> dict[str, Tensor]:
        return {"task": task.loss(model(**batch.inputs).logits, labels_of(batch))}

    return loss

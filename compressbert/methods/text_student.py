"""What distillation into a network of our own shares: such a student has one vector of a text and nothing per token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from compressbert.config.schema import TaskKind
from compressbert.data.batches import Batch
from compressbert.errors import ConfigError
from compressbert.methods.base import Run, labels_of
from compressbert.methods.knowledge import Soft, soft_loss, teacher_signals
from compressbert.model.handle import Model
from compressbert.model.pooling import Pooling
from compressbert.train.loop import Loss

PER_TOKEN: tuple[TaskKind, ...] = ("token-classification", "question-answering", "masked-lm")


def refuse_kinds(kind: TaskKind, refused: tuple[TaskKind, ...], method: str) -> None:
    """ConfigError for a kind of task that the student cannot learn."""
    if kind in refused:
        raise ConfigError(
            f"{method} makes one answer of a whole text, so it cannot learn {kind}",
            hint="Distil with pkd, tinybert or minilm, whose students are transformers.",
        )


def holds_pairs(run: Run) -> bool:
    """Whether the rows hold two texts in one sequence."""
    return run.train is not None and run.train.pairs


def soft_target_training(
    run: Run,
    soft: Soft,
    *,
    alpha_soft: float = 1.0,
    alpha_hard: float = 0.0,
    distance: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Loss:
    """The loss of a student that regresses its teacher's outputs, from the cache, and perhaps the labels.

    Args:
        run: With teacher and data.
        soft: How logits are compared.
        alpha_soft: Weight of the teacher's outputs.
        alpha_hard: Weight of the task's own loss; labels are read only if it has some.
        distance: Of the outputs, (B, C) each, in place of ``soft``.
    """
    task, teacher = run.required_task, teacher_signals(run, hidden=False) if alpha_soft else None

    def loss(student: Model, batch: Batch) -> dict[str, Tensor]:
        logits, parts = student(**batch.inputs).logits, {}
        if teacher is not None:
            taught = teacher(batch).logits
            apart = distance(logits, taught) if distance else soft_loss(task.kind, soft, logits, taught, 1.0)
            parts["soft"] = alpha_soft * apart
        if alpha_hard:
            parts["task"] = alpha_hard * task.loss(logits, labels_of(batch))
        return parts

    return loss


def bare_encoder(model: Model, *, first_token: bool) -> Model:
    """The encoder alone, giving the mean of its states or the first of them as its output; nothing is copied."""
    return replace(
        model,
        network=model.network.base_model,
        pooling=Pooling("cls" if first_token else "mean", normalize=False),
    )

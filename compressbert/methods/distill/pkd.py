"""Patient distillation: a student whose [CLS] state points where its teacher's does, layer after layer.

Paper: S. Sun et al. Patient Knowledge Distillation for BERT Model Compression. EMNLP 2019. arXiv 1908.09355

What is done: the student starts from the teacher's first layers, embeddings and head. With c the state of the first
token, k layers in the student, and I the teacher's layers they look at,

    (1 − alpha) · L_task + alpha · T² · KL(teacher ‖ student) + beta · Σ over k − 1 layers of ‖c_s/‖c_s‖ − c_t/‖c_t‖‖²

all means over examples; the student's last layer takes no part in the third term. I is every (L / k)-th layer
(`skip`, the better one in the paper) or the last k − 1 before the top (`last`). The teacher runs once; its outputs
and states are cached by row.

Differs from the paper: its code averages the third term over the H features and the second over the classes; here
both are means over examples alone, so its beta of 500 is 500 / H (0.65 for BERT-base), the default. Rows are
shuffled, which the published code gives up for its cache.

Cost: one pass of the teacher over the data, then training a network of the student's size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from compressbert.config.schema import Fraction, Positive
from compressbert.data.batches import Batch
from compressbert.errors import ConfigError
from compressbert.methods.base import MethodConfig, Run, labels_of, trainable_copy
from compressbert.methods.knowledge import soft_loss, teacher_signals
from compressbert.methods.teacher_inside import teacher_inside
from compressbert.model.edits import keep_layers
from compressbert.model.handle import Model
from compressbert.nn.layer_maps import choose_layers
from compressbert.nn.transfer import patient_loss
from compressbert.train.loop import Loss

NEEDS = ("data",)

SURVEY = {
    "row": "BERT6-PKD",
    "compression": 1.6,
    "retained": 98,
    "speedup": 1.9,
    "layers": 6,
    "evaluated_on": "GLUE without WNLI, CoLA and STS-B; RACE",
    "remark": "BERT3-PKD, of 3 layers: 2.4× smaller, 92 % retained, 3.7× faster.",
}

TRAIN_DEFAULTS = {"epochs": 4.0, "batch_size": 32, "learning_rate": 5e-5}

Patience = Literal["skip", "last"]


class Config(MethodConfig):
    """Settings of pkd."""

    layers: Positive | tuple[int, ...] | None = Field(
        None, description="How many of the teacher's first layers the student has, or which. Unset: half."
    )
    patience: Patience = Field("skip", description="Which of the teacher's layers are looked at.")
    temperature: Annotated[float, Field(gt=0)] = Field(10.0, description="T of the soft targets.")
    alpha: Fraction = Field(0.7, description="Share of the soft targets; the labels have the rest.")
    beta: Annotated[float, Field(ge=0)] = Field(0.65, description="Weight of the states' directions.")

    def reads_labels(self) -> bool:
        """Where they have weight."""
        return self.alpha < 1


def watched_layers(teacher_layers: int, student_layers: int, patience: Patience) -> tuple[int, ...]:
    """Return the teacher's layers, from 0, that the student's layers but its last one look at.

    12 and 6 give 1, 3, 5, 7, 9 for skip and 6, 7, 8, 9, 10 for last.

    Raises:
        ConfigError: The teacher has too few layers.
    """
    if student_layers > teacher_layers:
        raise ConfigError(
            f"the student has {student_layers} layers, its teacher {teacher_layers}",
            hint="Give the student at most as many layers.",
        )
    pairs = student_layers - 1
    if patience == "last":
        return tuple(range(teacher_layers - 1 - pairs, teacher_layers - 1))
    return tuple((index + 1) * teacher_layers // student_layers - 1 for index in range(pairs))


def teacher_side(run: Run, layers: tuple[int, ...]) -> Callable[[Batch], tuple[Tensor, Tensor | None]]:
    """Return the function that gives what a batch is compared with, all from one pass of the teacher.

    That is its logits, (N, C), and its first-token states after ``layers``, (B, k, H), or None without layers.
    """
    if not layers:
        signals = teacher_signals(run, hidden=False)
        return lambda batch: (signals(batch).logits, None)
    if run.required_task.per_token:
        inside, task = teacher_inside(run), run.required_task

        def live(batch: Batch) -> tuple[Tensor, Tensor]:
            seen = inside(batch)
            return task.signals(seen.output.logits, batch), first_tokens(seen.hidden, layers)

        return live
    cache = run.teacher_outputs(layers=layers)
    return lambda batch: (cache.logits(batch.examples), cache.states(batch.examples))


def first_tokens(hidden: tuple[Tensor, ...], layers: tuple[int, ...]) -> Tensor:
    """Return first-token states after ``layers`` from all states (embeddings first): (B, k, H)."""
    return torch.stack([hidden[layer + 1][:, 0] for layer in layers], dim=1)


def training_loss(run: Run, config: Config, watched: tuple[int, ...]) -> Loss:
    """Return the loss of the module's docstring; parts of weight 0 are not computed."""
    task = run.required_task
    watched = watched if config.beta else ()
    teacher = teacher_side(run, watched) if config.alpha or watched else None
    own = tuple(range(len(watched)))

    def loss(student: Model, batch: Batch) -> dict[str, Tensor]:
        output = student(**batch.inputs, output_hidden_states=bool(watched))
        parts = {}
        if config.alpha < 1:
            parts["task"] = (1 - config.alpha) * task.loss(output.logits, labels_of(batch))
        if teacher is None:
            return parts
        taught, states = teacher(batch)
        if config.alpha:
            said = task.signals(output.logits, batch)
            parts["soft"] = config.alpha * soft_loss(task.kind, "kl", said, taught, config.temperature)
        if states is not None:
            parts["patience"] = config.beta * patient_loss(first_tokens(output.hidden_states, own), states)
        return parts

    return loss


def compress(model: Model, config: Config, run: Run) -> Model:
    """Return a student of ``model`` (the teacher, unless the run has another one), trained on ``run``'s data.

    Raises:
        ConfigError: The layers do not exist, teacher and student differ in width, or there is no training data.
    """
    run.require("pkd", NEEDS)
    layers = choose_layers(len(model.family.layers(model.network)), config.layers, "first")
    student = trainable_copy(model, "pkd")
    keep_layers(student, layers)
    run = run.with_teacher(model)
    teacher = run.required_teacher
    _check_widths(teacher, student, config.beta)
    watched = watched_layers(len(teacher.family.layers(teacher.network)), len(layers), config.patience)
    run.note(
        f"The student keeps layers {', '.join(map(str, layers))} of its teacher and looks at "
        f"{', '.join(map(str, watched)) or 'none'} of them."
    )
    run.fit(student, training_loss(run, config, watched), stage="distill", depends_on=config)
    return student


def _check_widths(teacher: Model, student: Model, beta: float) -> None:
    widths = [each.family.layers(each.network)[0].hidden for each in (teacher, student)]
    if beta and widths[0] != widths[1]:
        raise ConfigError(
            f"the teacher's states are {widths[0]} wide, the student's {widths[1]}", hint="Set beta: 0."
        )

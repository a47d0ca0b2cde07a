"""DistilBERT: a student with fewer layers, cut from its teacher and trained on the teacher's soft targets.

Paper: V. Sanh et al. DistilBERT, a distilled version of BERT. NeurIPS workshop EMC² 2019. arXiv 1910.01108

What is done: the student is the teacher's architecture with some of its layers; embeddings, kept layers and
head start from the teacher's weights. It is trained with

    alpha_soft · T² · KL(teacher ‖ student) + alpha_hard · L_task + alpha_cos · mean(1 − cos(h_s, h_t))

- Labelled data: L_task is the task's loss and h the last layer's [CLS] state. The teacher runs once; its
  outputs are cached. Tags and answers: soft targets are means over the words, or over starts and ends of
  answers, h is that of every token, and the teacher runs with the student.
- Raw text (task: masked-lm): L_task is the masked-language-model loss and h the last layer's state; soft
  targets and cosine are means over every token that is not padding. Masks are drawn anew each epoch, so the
  teacher runs with the student. As in the paper, rare words are masked more often and position embeddings
  stay frozen.

Differs from the paper: it distils during pre-training only; the task-specific form here applies the same loss
to the task's own data (learning rate 1e-4 instead of 5e-4, batches of 32 instead of about 4,000). The student
keeps token-type embeddings and the teacher's head (the paper drops the segments and the pooler).
The paper reaches 97 % of BERT-base on GLUE with half its layers.

Cost: one pass of the teacher over the data, then training a network of the student's size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Tensor

from compressbert.config.schema import Positive
from compressbert.data.batches import Batch
from compressbert.data.encode import Encoded, token_counts
from compressbert.data.masking import smoothed_weights
from compressbert.errors import ConfigError
from compressbert.methods.base import MethodConfig, Run, labels_of, trainable_copy
from compressbert.methods.knowledge import Soft, forward, soft_loss, teacher_signals
from compressbert.model.edits import keep_layers
from compressbert.model.handle import Model
from compressbert.nn.layer_maps import Choice, choose_layers
from compressbert.nn.losses import hidden_cosine
from compressbert.train.loop import Loss

NEEDS = ("data",)

SURVEY = {
    "row": "DistilBERT",
    "compression": 1.5,
    "retained": 90,
    "speedup": 1.6,
    "layers": 6,
    "evaluated_on": "all GLUE tasks, SQuAD",
    "remark": "The authors report 97 % retained.",
}

TRAIN_DEFAULTS = {"epochs": 3.0, "batch_size": 32, "learning_rate": 1e-4}

Weight = Annotated[float, Field(ge=0)]


class Config(MethodConfig):
    """Settings of distilbert."""

    layers: Positive | tuple[int, ...] | None = Field(
        None,
        description="How many layers to keep, or a list of them counted from 0. Unset: half (the paper's).",
    )
    select: Choice = Field("every-other", description="Which layers, when `layers` is a number.")
    soft: Soft = Field(
        "kl", description="kl: softened probabilities (the paper's). mse: squared difference of logits."
    )
    temperature: Annotated[float, Field(gt=0)] = Field(
        2.0, description="T of the soft targets; unused by mse."
    )
    alpha_soft: Weight = Field(5.0, description="Weight of the soft targets.")
    alpha_hard: Weight = Field(2.0, description="Weight of the task's (or masked-language-model) loss.")
    alpha_cos: Weight = Field(1.0, description="Weight of the cosine between last hidden states.")
    rare_words: Annotated[float, Field(ge=0)] = Field(
        0.7, description="Raw text: words are masked with chance frequency^-rare_words; 0 for equal chances."
    )
    freeze_positions: bool | None = Field(
        None,
        description="Do not train position embeddings. Unset: true on raw text (the paper's), else false.",
    )

    @model_validator(mode="after")
    def _something_to_learn(self) -> Config:
        if not (self.alpha_soft or self.alpha_hard or self.alpha_cos):
            raise ValueError("alpha_soft, alpha_hard and alpha_cos are all 0, so nothing would be learned")
        return self

    def reads_labels(self) -> bool:
        """Where they have weight."""
        return self.alpha_hard > 0


def distillation_loss(
    run: Run, *, soft: Soft, temperature: float, alpha_soft: float, alpha_hard: float, alpha_cos: float
) -> Loss:
    """Return the loss of the module's docstring; parts of weight 0 are not computed."""
    task = run.required_task
    use_hidden = alpha_cos > 0
    teacher = teacher_signals(run, hidden=use_hidden)

    def loss(student: Model, batch: Batch) -> dict[str, Tensor]:
        logits, seen = forward(student, batch, task=task, hidden=use_hidden)
        taught = teacher(batch)
        parts = {}
        if alpha_soft:
            parts["soft"] = alpha_soft * soft_loss(task.kind, soft, seen.logits, taught.logits, temperature)
        if alpha_hard:
            parts["task"] = alpha_hard * task.loss(logits, labels_of(batch))
        if seen.hidden is not None and taught.hidden is not None:
            parts["cosine"] = alpha_cos * hidden_cosine(seen.hidden, taught.hidden)
        return parts

    return loss


def check_same_spaces(teacher: Model, student: Model, *, hidden: bool) -> None:
    """Check that the teacher reads the student's words and, for the cosine, is as wide.

    Raises:
        ConfigError: The vocabularies or the widths differ.
    """
    if teacher.network.config.vocab_size != student.network.config.vocab_size:
        raise ConfigError(
            f"The teacher's vocabulary has {teacher.network.config.vocab_size} words, the student's "
            f"{student.network.config.vocab_size}",
            hint="Distil from a teacher with the student's tokenizer.",
        )
    widths = [hidden_width(model) for model in (teacher, student)]
    if hidden and widths[0] != widths[1]:
        raise ConfigError(
            f"The teacher's hidden states are {widths[0]} wide, the student's {widths[1]}",
            hint="Set alpha_cos: 0.",
        )


def hidden_width(model: Model) -> int:
    """Return the width of the residual stream."""
    return model.family.layers(model.network)[0].hidden


def favour_rare_words(encoded: Encoded, exponent: float) -> Encoded:
    """Return masked-lm rows that draw their masks with chance ∝ frequency^-exponent; others as they are."""
    if encoded.masking is None or exponent == 0:
        return encoded
    counts = torch.from_numpy(token_counts(encoded, encoded.masking.vocabulary))
    weights = smoothed_weights(counts, encoded.masking.special_ids, exponent)
    return replace(encoded, masking=replace(encoded.masking, weights=weights))


@contextmanager
def _frozen_positions(model: Model, *, enabled: bool) -> Iterator[None]:
    """Keep the position embeddings out of training while the block runs."""
    table = model.family.embeddings(model.network).position
    table.requires_grad_(not enabled)
    try:
        yield
    finally:
        table.requires_grad_(True)


def compress(model: Model, config: Config, run: Run) -> Model:
    """Return a student of ``model`` (the teacher, unless the run has another one), trained on ``run``'s data.

    Raises:
        ConfigError: The layers do not exist, every weight is 0, or there is no training data.
    """
    run.require("distilbert", NEEDS)
    layers = choose_layers(len(model.family.layers(model.network)), config.layers, config.select)
    run = replace(run.with_teacher(model), train=favour_rare_words(run.training_data, config.rare_words))
    student = trainable_copy(model, "distilbert")
    keep_layers(student, layers)
    run.note(f"The student keeps layers {', '.join(map(str, layers))} of its teacher.")
    positions = config.freeze_positions
    if positions is None:
        positions = run.required_task.kind == "masked-lm"
    check_same_spaces(run.required_teacher, student, hidden=config.alpha_cos > 0)
    loss = distillation_loss(
        run, soft=config.soft, temperature=config.temperature, alpha_soft=config.alpha_soft,
        alpha_hard=config.alpha_hard, alpha_cos=config.alpha_cos,
    )  # fmt: skip
    with _frozen_positions(student, enabled=positions):
        run.fit(student, loss, stage="distill", depends_on=config)
    return student

"""TinyBERT: a narrow, shallow student that copies its teacher's attention scores and hidden states, then its answers.

Paper: X. Jiao et al. TinyBERT: Distilling BERT for Language Understanding. EMNLP Findings 2020. arXiv 1909.10351

What is done: layer m of the student is matched with layer g(m), the last of its share of the teacher's; the embeddings
with the embeddings. With W a learned map from the student's width to the teacher's:

    intermediate: Σ_m MSE(scores_s, scores_t) + Σ_m MSE(h_s W, h_t)      scores before the softmax; embeddings included
    prediction:   T² · KL(softmax(z_t / T) ‖ softmax(z_s / T)), T = 1     no labels

- Raw text (task: masked-lm), the general stage: intermediate losses only, for the epochs of the training settings.
- Data of a task: `intermediate_epochs` at a constant rate, then prediction for the epochs of the training settings.

Differs from the paper: the student starts from a cut of the teacher unless `init: random` (the general stage) or
`student: FOLDER` (what it left) says otherwise; W starts as the identity on the leading features and is dropped
afterwards. Soft targets are a mean over examples, where the published code also divides by the number of classes.
Padding takes no part in a loss. The pooled state reaches the head as in the stock model, without a further ReLU.
For regression the soft target is the teacher's number.

Cost: in the intermediate stage the teacher runs with the student on every batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from compressbert.data.batches import Batch
from compressbert.methods.base import Run
from compressbert.methods.knowledge import retune_loss
from compressbert.methods.shapes import StudentConfig, student_of
from compressbert.methods.teacher_inside import check_equal_heads, teacher_inside
from compressbert.model.handle import Model
from compressbert.model.inside import Inside, look_inside
from compressbert.nn.layer_maps import uniform_matches
from compressbert.nn.transfer import hidden_mse, score_mse
from compressbert.train.loop import Loss

NEEDS = ("data",)

SURVEY = {
    "row": "TinyBERT",
    "compression": 7.5,
    "retained": 96,
    "speedup": 9.4,
    "layers": 4,
    "evaluated_on": "all GLUE tasks",
}

TRAIN_DEFAULTS = {"epochs": 3.0, "batch_size": 32, "learning_rate": 3e-5}


class Config(StudentConfig):
    """Settings of tinybert."""

    intermediate_epochs: Annotated[float, Field(ge=0)] = Field(
        10.0, description="Passes over the task's data for scores and states; the paper takes 5 to 50."
    )
    intermediate_learning_rate: Annotated[float, Field(gt=0)] = Field(
        5e-5, description="Learning rate of these passes, constant after warm-up."
    )
    projection: Literal["shared", "separate"] = Field(
        "shared",
        description="One map of widths for embeddings and layers (the published code), or one for each kind.",
    )
    temperature: Annotated[float, Field(gt=0)] = Field(1.0, description="T of the soft targets.")
    alpha_hard: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Weight of the labels in the prediction stage; the authors found no gain."
    )

    def reads_labels(self) -> bool:
        """Where they have weight."""
        return self.alpha_hard > 0


def leading_identity(width: int, teacher_width: int) -> nn.Linear:
    """Return a map of states (…, width) to (…, teacher_width) that copies features and leaves the rest 0."""
    linear = nn.Linear(width, teacher_width)
    with torch.no_grad():
        linear.weight.copy_(torch.eye(teacher_width, width))
        linear.bias.zero_()
    return linear


def projections(student: Model, teacher: Model, kind: str) -> nn.ModuleDict:
    """Return the maps of widths: ``layers``, and ``embeddings``, which are one module if ``kind`` is shared."""
    widths = [model.family.layers(model.network)[0].hidden for model in (student, teacher)]
    layers = leading_identity(*widths)
    embeddings = layers if kind == "shared" else leading_identity(*widths)
    return nn.ModuleDict({"layers": layers, "embeddings": embeddings})


def intermediate_losses(
    student: Inside, teacher: Inside, mask: Tensor, matches: tuple[int, ...], maps: nn.ModuleDict
) -> dict[str, Tensor]:
    """Return the intermediate parts of the module's loss.

    Args:
        student: With the vectors of all its layers.
        teacher: With the vectors of the layers in ``matches``.
        mask: (B, S), 1 for real tokens.
        matches: The teacher's layer for each of the student's.
        maps: Of `projections`.
    """
    states = [hidden_mse(maps["embeddings"](student.hidden[0]), teacher.hidden[0], mask)]
    scores = []
    for own, other in enumerate(matches):
        states.append(hidden_mse(maps["layers"](student.hidden[own + 1]), teacher.hidden[other + 1], mask))
        scores.append(score_mse(student.scores(own), teacher.scores(other), mask))
    return {"scores": torch.stack(scores).sum(), "states": torch.stack(states).sum()}


def intermediate_loss(
    taught: Callable[[Batch], Inside], matches: tuple[int, ...], maps: nn.ModuleDict
) -> Loss:
    """Return `intermediate_losses` as a training loss."""

    def loss(student: Model, batch: Batch) -> dict[str, Tensor]:
        seen = look_inside(student, batch.inputs, layers=tuple(range(len(matches))))
        return intermediate_losses(seen, taught(batch), batch.inputs["attention_mask"], matches, maps)

    return loss


def compress(model: Model, config: Config, run: Run) -> Model:
    """Return a student of ``model`` (the teacher, unless the run has another one).

    Raises:
        ConfigError: An impossible shape, another number of heads than the teacher's, or no training data.
    """
    run.require("tinybert", NEEDS)
    student = student_of(model, config, run, "tinybert")
    run = run.with_teacher(model)
    teacher = run.required_teacher
    depths = [len(each.family.layers(each.network)) for each in (teacher, student)]
    matches = uniform_matches(*depths)
    check_equal_heads(teacher, student, dict(enumerate(matches)), remedy="Leave `heads` unset.")
    maps = projections(student, teacher, config.projection)
    loss = intermediate_loss(teacher_inside(run, matches), matches, maps)
    if run.required_task.kind == "masked-lm":
        run.fit(student, loss, stage="general", depends_on=config, extra_modules={"maps": maps})
        return student
    if config.intermediate_epochs:
        constant = {"learning_rate": config.intermediate_learning_rate, "schedule": "constant"}
        first = replace(run, settings=run.settings.model_copy(update=constant))
        epochs = config.intermediate_epochs
        first.fit(
            student,
            loss,
            stage="intermediate",
            epochs=epochs,
            depends_on=config,
            extra_modules={"maps": maps},
        )
    answers = retune_loss(run, temperature=config.temperature, hard_weight=config.alpha_hard)
    run.fit(student, answers, stage="prediction", depends_on=config)
    return student

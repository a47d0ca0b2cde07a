"""Internal representations: a student that attends and encodes like its teacher, layer by layer.

Paper: G. Aguilar et al. Knowledge Distillation from Internal Representations. AAAI 2020. arXiv 1910.03723

What is done: layer ℓ of the student is matched with the last layer of its share of the teacher's. A matched pair costs

    mean over heads and real queries of KL(attention_t ‖ attention_s)  +  mean of 1 − cos(h_s[CLS], h_t[CLS])

- progressive: one pair after another from the bottom, each for `layer_epochs`;
- stacked: the same, with the pairs below kept on;
- joint: all pairs and the soft targets at once.

Then (but joint) the student learns soft targets and labels for the epochs of the training settings:
T² · KL(teacher ‖ student) + alpha_hard · L_task.

Differs from the paper: it gives no figures for the last stage's weights, and which of its experiments the survey lists
is not certain; the default is stacked with soft targets and labels. It moves on to the next layer also when a loss
falls below a threshold; here every layer gets the same number of epochs.

Cost: in the layer stages the teacher runs with the student on every batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from compressbert.config.schema import Positive
from compressbert.data.batches import Batch
from compressbert.methods.base import MethodConfig, Run, trainable_copy
from compressbert.methods.knowledge import retune_loss
from compressbert.methods.teacher_inside import check_equal_heads, teacher_inside
from compressbert.model.edits import keep_layers
from compressbert.model.handle import Model
from compressbert.model.inside import Inside, look_inside
from compressbert.nn.layer_maps import Choice, choose_layers, uniform_matches
from compressbert.nn.losses import hidden_cosine
from compressbert.nn.transfer import attention_kl
from compressbert.train.loop import Loss

NEEDS = ("data",)

SURVEY = {
    "row": "Aguilar et al., Exp. 3",
    "compression": 1.6,
    "retained": 93,
    "speedup": None,
    "layers": 6,
    "evaluated_on": "CoLA, MRPC, QQP, RTE",
}

TRAIN_DEFAULTS = {"epochs": 3.0, "batch_size": 32, "learning_rate": 5e-5}


class Config(MethodConfig):
    """Settings of internal_representations."""

    layers: Positive | tuple[int, ...] | None = Field(
        None,
        description="How many layers the student has, or which of the teacher's it starts from. Unset: half.",
    )
    select: Choice = Field(
        "every-other", description="Which layers it starts from, when `layers` is a number."
    )
    schedule: Literal["progressive", "stacked", "joint"] = Field(
        "stacked", description="One layer at a time, each on top of those below, or everything at once."
    )
    layer_epochs: Annotated[float, Field(gt=0)] = Field(
        1.0, description="Passes over the data for each layer."
    )
    temperature: Annotated[float, Field(gt=0)] = Field(2.0, description="T of the soft targets.")
    alpha_hard: Annotated[float, Field(ge=0)] = Field(1.0, description="Weight of the task's own loss.")

    def reads_labels(self) -> bool:
        """Where they have weight."""
        return self.alpha_hard > 0


def layer_losses(
    student: Inside, teacher: Inside, mask: Tensor, pairs: Iterable[tuple[int, int]]
) -> dict[str, Tensor]:
    """Return the sums over matched layers of the attention and the [CLS] loss.

    Args:
        student: One side.
        teacher: The other.
        mask: (B, S), 1 for real tokens.
        pairs: (layer of the student, layer of the teacher).
    """
    attention, first = [], []
    for own, other in pairs:
        attention.append(attention_kl(student.scores(own), teacher.scores(other), mask))
        first.append(hidden_cosine(student.hidden[own + 1][:, 0], teacher.hidden[other + 1][:, 0]))
    return {"attention": sum(attention[1:], attention[0]), "first_token": sum(first[1:], first[0])}


def stages(count: int, schedule: str) -> list[tuple[int, ...]]:
    """Return the student's layers that each stage before the soft targets trains."""
    if schedule == "progressive":
        return [(layer,) for layer in range(count)]
    if schedule == "stacked":
        return [tuple(range(layer + 1)) for layer in range(count)]
    return []


def training_loss(taught: Callable[[Batch], Inside], pairs: tuple[tuple[int, int], ...]) -> Loss:
    """Return `layer_losses` of ``pairs`` as a training loss."""

    def loss(student: Model, batch: Batch) -> dict[str, Tensor]:
        seen = look_inside(student, batch.inputs, layers=tuple(own for own, _ in pairs))
        return layer_losses(seen, taught(batch), batch.inputs["attention_mask"], pairs)

    return loss


def compress(model: Model, config: Config, run: Run) -> Model:
    """Return a student of ``model`` (the teacher, unless the run has another one).

    Raises:
        ConfigError: The layers do not exist, the heads differ, or there is no training data.
    """
    run.require("internal_representations", NEEDS)
    layers = choose_layers(len(model.family.layers(model.network)), config.layers, config.select)
    run = run.with_teacher(model)
    teacher = run.required_teacher
    student = trainable_copy(model, "internal_representations")
    keep_layers(student, layers)
    matches = uniform_matches(len(teacher.family.layers(teacher.network)), len(layers))
    pairs = tuple(enumerate(matches))
    check_equal_heads(teacher, student, dict(pairs), remedy="Take a teacher with the student's heads.")
    run.note(f"The student keeps layers {', '.join(map(str, layers))} of its teacher.")
    inside = teacher_inside(run, matches)
    for index, active in enumerate(stages(len(layers), config.schedule)):
        loss = training_loss(inside, tuple(pairs[layer] for layer in active))
        run.fit(student, loss, stage=f"layer{index}", epochs=config.layer_epochs, depends_on=config)
    final = retune_loss(run, temperature=config.temperature, hard_weight=config.alpha_hard)
    if config.schedule == "joint":
        final = _both(training_loss(inside, pairs), final)
    run.fit(student, final, stage="soft", depends_on=config)
    return student


def _both(one: Loss, other: Loss) -> Loss:
    def loss(model: Model, batch: Batch) -> dict[str, Tensor]:
        return {**one(model, batch), **other(model, batch)}

    return loss

"""MobileBERT: a deep, thin student of bottleneck layers that copies its teacher layer by layer, then learns the task.

Paper: Z. Sun et al. MobileBERT: a Compact Task-Agnostic BERT for Resource-Limited Devices. ACL 2020. arXiv 2004.02984

What is done: the student is a stock MobileBERT. Each layer narrows its input from `hidden` to `inner`, attends, runs
several small feed-forward networks and widens again; norms only scale and shift. Its stream between layers is as
wide as its teacher's and its heads are as many, so that with L layers, for layer l alone,

    (100 · MSE(LN(h_t), LN(h_s)) + KL(attention_t ‖ attention_s) + 5000 · (μ_t − μ_s)² + 5 · |σ²_t − σ²_s|) / L

Progressive transfer: the embeddings first, then one layer after the other, each for `phase_epochs`; the layer in turn
has three times the learning rate, what lies below 0.3 times, what lies above takes no part. Then the whole network:

    (1 − alpha) · L_task + alpha · KL(teacher ‖ student)                         T = 1

A plain teacher teaches directly while `hidden` and `heads` are left as they are. With another width or other heads an
inverted-bottleneck teacher comes between, as in the paper: plain layers as insides of layers with that stream,
trained on the plain teacher's answers and the labels for `teacher_epochs`; it then teaches the layers, and the plain
one the answers.

Differs from the paper: task data work as well as raw text (task: masked-lm, the paper's). Word vectors are the best
narrow factors of the teacher's, and so have a phase of their own. KL stands for cross-entropy, whose gradient is
the same. Mean and variance are compared layer by layer, where the published code takes them over all of the teacher's
layers at once. Adam instead of LAMB.

Cost: a phase runs teacher and student up to its layer; all phases together cost about half of as many full passes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Annotated

from pydantic import Field
from torch import Tensor

from compressbert.config.schema import Fraction, Positive
from compressbert.data.batches import Batch
from compressbert.errors import ConfigError
from compressbert.methods.base import MethodConfig, Run, refuse_int8
from compressbert.methods.knowledge import retune_loss
from compressbert.methods.teacher_inside import check_equal_heads, heads_of, teacher_inside
from compressbert.model.handle import Model
from compressbert.model.inside import Inside, first_layers, look_inside
from compressbert.model.mobilebert import (
    MobileShape,
    Norm,
    build_inverted,
    build_thin,
    calibrate_no_norm,
)
from compressbert.nn.layer_maps import uniform_matches
from compressbert.nn.transfer import attention_kl, feature_map_losses
from compressbert.train.loop import Loss

NEEDS = ("data",)

SURVEY = {
    "row": "MobileBERT",
    "compression": 4.3,
    "retained": 100,
    "speedup": 4,
    "layers": 24,
    "evaluated_on": "GLUE without WNLI; SQuAD",
}

TRAIN_DEFAULTS = {"epochs": 5.0, "batch_size": 32, "learning_rate": 1e-4}

IN_TURN, BELOW = 3.0, 0.3  # factors of the learning rate in a phase

NonNegative = Annotated[float, Field(ge=0)]
Above0 = Annotated[float, Field(gt=0)]


class Config(MethodConfig):
    """Settings of mobilebert."""

    layers: Positive | None = Field(
        None, description="How many layers the student has. Unset: as many as its teacher, as in the paper."
    )
    hidden: Positive | None = Field(
        None, description="Width between layers. Unset: the teacher's. Paper: 512, for a teacher of 1024."
    )
    inner: Positive | None = Field(
        None,
        description="Width inside a layer, a multiple of the heads. Unset: about a quarter of `hidden` (paper: 128).",
    )
    heads: Positive | None = Field(
        None, description="Heads in each layer. Unset: the teacher's. Paper: 4, as its teacher."
    )
    ffn: Positive | None = Field(
        None, description="Neurons of each feed-forward network. Unset: four times `inner`."
    )
    feed_forwards: Positive = Field(4, description="Feed-forward networks stacked in each layer.")
    embedding: Positive | None = Field(
        None, description="Width of the word table. Unset: a quarter of `hidden` (paper: 128)."
    )
    norm: Norm = Field(
        "no_norm", description="no_norm scales and shifts only; layer_norm trains more easily."
    )
    phase_epochs: NonNegative = Field(
        1.0, description="Passes over the data for the embeddings and for each layer."
    )
    phase_learning_rate: Above0 = Field(
        5e-4, description="Learning rate of the phases before the factors 3.0 and 0.3."
    )
    feature_weight: NonNegative = Field(100.0, description="Weight of the normalised states.")
    attention_weight: NonNegative = Field(1.0, description="Weight of the attention distributions.")
    mean_weight: NonNegative = Field(5000.0, description="Weight of the states' means.")
    variance_weight: NonNegative = Field(5.0, description="Weight of the states' variances.")
    alpha: Fraction = Field(
        0.5, description="Share of the teacher's answers at the end; the labels have the rest."
    )
    teacher_epochs: NonNegative = Field(
        3.0, description="Passes over the data for an inverted-bottleneck teacher, where there is one."
    )
    teacher_learning_rate: Above0 = Field(1e-4, description="Learning rate of these passes.")

    def reads_labels(self) -> bool:
        """Where they have weight."""
        return self.alpha < 1


def shape_of(teacher: Model, config: Config) -> MobileShape:
    """Return the student's sizes: those set, else the teacher's or the paper's share of them."""
    layers = teacher.family.layers(teacher.network)
    hidden = config.hidden or layers[0].hidden
    heads = config.heads or layers[0].heads
    inner = config.inner or max(1, round(hidden / 4 / heads)) * heads
    return MobileShape(
        layers=config.layers or len(layers),
        hidden=hidden,
        inner=inner,
        heads=heads,
        ffn=config.ffn or 4 * inner,
        feed_forwards=config.feed_forwards,
        embedding=config.embedding or max(1, hidden // 4),
        norm=config.norm,
    )


def layer_losses(
    student: Inside, teacher: Inside, mask: Tensor, *, own: int, other: int, config: Config
) -> dict[str, Tensor]:
    """Return the weighted parts of one layer's loss, each divided by the number of the student's layers.

    Args:
        student: With the vectors of layer ``own``.
        teacher: With the vectors of layer ``other``.
        mask: (B, S), 1 for real tokens.
        own: The student's layer; −1 for the embeddings, which have no attention.
        other: The teacher's.
        config: The weights.
    """
    states = feature_map_losses(student.hidden[own + 1], teacher.hidden[other + 1], mask)
    parts = {
        "features": config.feature_weight * states["features"],
        "mean": config.mean_weight * states["mean"],
        "variance": config.variance_weight * states["variance"],
    }
    if own >= 0:
        attention = attention_kl(student.scores(own), teacher.scores(other), mask)
        parts["attention"] = config.attention_weight * attention
    return parts


def phase_loss(taught: Callable[[Batch], Inside], own: int, other: int, depth: int, config: Config) -> Loss:
    """Return `layer_losses` of one layer as a training loss, divided by the student's ``depth``."""
    layers = (own,) if own >= 0 else ()

    def loss(student: Model, batch: Batch) -> dict[str, Tensor]:
        seen = look_inside(student, batch.inputs, layers=layers)
        mask = batch.inputs["attention_mask"]
        parts = layer_losses(seen, taught(batch), mask, own=own, other=other, config=config)
        return {name: part / depth for name, part in parts.items()}

    return loss


def rate_of(student: Model, own: int) -> Callable[[str], float]:
    """Return the factor of the learning rate of a parameter of the bare encoder in the phase of layer ``own``."""
    family, encoder = student.family, student.network.base_model
    start = f"{family.path(encoder, 'layer', own)}." if own >= 0 else "embeddings."
    return lambda name: IN_TURN if name.startswith(start) else BELOW


def transfer(student: Model, config: Config, run: Run) -> None:
    """Let ``student`` copy ``run.teacher`` from the embeddings up, in place."""
    teacher = run.required_teacher
    depths = [len(each.family.layers(each.network)) for each in (teacher, student)]
    matches = uniform_matches(*depths)
    check_equal_heads(teacher, student, dict(enumerate(matches)), remedy="Leave `heads` unset.")
    run = run.for_phase(learning_rate=config.phase_learning_rate, schedule="constant")
    for own, other in ((-1, -1), *enumerate(matches)):
        with ExitStack() as stack:
            lower, taught = (
                stack.enter_context(first_layers(model, max(1, last + 1)))
                for model, last in ((student, own), (teacher, other))
            )
            phase = replace(run, teacher=taught)
            loss = phase_loss(
                teacher_inside(phase, (other,) if own >= 0 else ()), own, other, depths[1], config
            )
            run.fit(
                lower,
                loss,
                stage="embeddings" if own < 0 else f"layer{own}",
                epochs=config.phase_epochs,
                depends_on=config,
                rate_of=rate_of(student, own),
            )


def inverted_teacher(teacher: Model, shape: MobileShape, config: Config, run: Run) -> Model:
    """Return an inverted-bottleneck teacher for ``shape``, trained on ``teacher``'s answers and the labels, if any."""
    wide = build_inverted(
        teacher, hidden=shape.hidden, heads=shape.heads, embedding=shape.embedding, seed=run.seed
    )
    wide.network.requires_grad_(True)
    run.note(
        f"An inverted-bottleneck teacher comes between: {len(wide.family.layers(wide.network))} layers, "
        f"{shape.hidden} wide between them."
    )
    if config.teacher_epochs:
        run.for_phase(learning_rate=config.teacher_learning_rate).fit(
            wide,
            retune_loss(run, temperature=1.0, hard_weight=1.0 if config.reads_labels() else 0.0),
            stage="teacher",
            epochs=config.teacher_epochs,
            depends_on=config,
        )
    wide.network.requires_grad_(False)
    return wide.eval()


def compress(model: Model, config: Config, run: Run) -> Model:
    """Return a MobileBERT student of ``model`` (the teacher, unless the run has another one).

    Raises:
        ConfigError: An impossible shape, or no training data.
        InputError: The teacher is int8.
    """
    run.require("mobilebert", NEEDS)
    refuse_int8(model, "mobilebert")
    run = run.with_teacher(model)
    teacher = run.required_teacher
    if run.student is not None:
        raise ConfigError(
            "mobilebert builds its student itself, but the run brings one", hint="Leave `student` out."
        )
    shape = shape_of(teacher, config)
    own = teacher.family.layers(teacher.network)
    guide = teacher
    if shape.hidden != own[0].hidden or shape.heads != heads_of(teacher, 0):
        guide = inverted_teacher(teacher, shape, config, run)
    student = build_thin(guide, shape, seed=run.seed)
    student.network.requires_grad_(True)
    run.note(
        f"The student has {shape.layers} layers, {shape.hidden} wide between them and {shape.inner} inside; its "
        "layers start at random, its embeddings from the teacher."
    )
    calibrate_no_norm(student, [batch.inputs for batch in run.sample_batches(student, 64)])
    if config.phase_epochs:
        transfer(student, config, replace(run, teacher=guide))
    answers = retune_loss(run, temperature=1.0, soft_weight=config.alpha, hard_weight=1 - config.alpha)
    run.fit(student, answers, stage="distill", depends_on=config)
    return student

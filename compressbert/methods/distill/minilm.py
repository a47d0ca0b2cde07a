"""MiniLM: a student that relates tokens to each other as its teacher's last layer does.

Paper: W. Wang et al. MiniLM: Deep Self-Attention Distillation. NeurIPS 2020. arXiv 2002.10957
Paper: W. Wang et al. MiniLMv2: Multi-Head Self-Attention Relation Distillation. ACL Findings 2021. arXiv 2012.15828

What is done: only one layer of the teacher teaches the student's last layer; depth and width are free. With R(X) the
softmax over tokens of X Xᵀ/√d in each head, means over heads and real tokens:

    v1: KL(attention_t ‖ attention_s) + KL(R(V_t) ‖ R(V_s))                       as many heads as the teacher
    v2: KL(R(Q_t) ‖ R(Q_s)) + KL(R(K_t) ‖ R(K_s)) + KL(R(V_t) ‖ R(V_s))           any, re-cut into relation heads

No labels are read. A student of at most half the depth and half the width learns from an assistant first, which has
the teacher's depth and the student's width. On data of a task the student is then trained on the teacher's soft
targets and the labels (`task_epochs`), since relations do not reach its last feed-forward network and its head.

Differs from the paper: it distils on a large raw corpus from a pre-trained teacher and fine-tunes afterwards; task
data work here too. The student starts from the teacher's layers unless `init: random`, which is the paper's. Padding
takes no part on either side.

Cost: the teacher runs with the student on every batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from compressbert.config.schema import Positive
from compressbert.data.batches import Batch
from compressbert.errors import ConfigError
from compressbert.methods.base import Run
from compressbert.methods.knowledge import retune
from compressbert.methods.shapes import StudentConfig, student_of
from compressbert.methods.teacher_inside import check_equal_heads, heads_of, teacher_inside
from compressbert.model.handle import Model
from compressbert.model.inside import Inside, look_inside
from compressbert.model.student import Shape, build_student
from compressbert.nn.layer_maps import listed_layers
from compressbert.nn.transfer import attention_kl, relations, split_heads
from compressbert.train.loop import Loss

NEEDS = ("data",)

SURVEY = {
    "row": "MiniLM",
    "compression": 1.65,
    "retained": 99,
    "speedup": 2.0,
    "layers": 6,
    "evaluated_on": "GLUE without WNLI, STS-B and MNLI-mm; SQuAD 2.0",
}

TRAIN_DEFAULTS = {"epochs": 3.0, "batch_size": 32, "learning_rate": 5e-4}

Epochs = Annotated[float, Field(ge=0)]


class Config(StudentConfig):
    """Settings of minilm."""

    version: Literal["v1", "v2"] = Field(
        "v2", description="v1: attention and value relations. v2: relations alone."
    )
    relation_heads: Positive | None = Field(
        None, description="v2: heads that queries, keys and values are cut into. Unset: the teacher's heads."
    )
    teacher_layer: int | None = Field(None, description="The layer that teaches, from 0. Unset: the last.")
    assistant: bool | None = Field(
        None,
        description="Learn through an assistant. Unset: for a student of at most half the depth and width.",
    )
    task_epochs: Epochs = Field(
        3.0,
        description="Epochs of soft targets and labels afterwards, on data of a task; 0 for none (the paper's).",
    )
    task_learning_rate: Annotated[float, Field(gt=0)] = Field(
        5e-5, description="Learning rate of those epochs."
    )

    alpha_hard: Annotated[float, Field(ge=0)] = Field(
        1.0, description="Weight of the labels in those epochs."
    )

    def reads_labels(self) -> bool:
        """Where they have weight."""
        return self.task_epochs > 0 and self.alpha_hard > 0


def relation_loss(
    student: Inside, teacher: Inside, mask: Tensor, *, layer: int, version: str, heads: int
) -> dict[str, Tensor]:
    """Return the parts of the module's loss.

    Args:
        student: Its last layer counts.
        teacher: Its ``layer`` counts.
        mask: (B, S), 1 for real tokens.
        layer: Of the teacher.
        version: v1 or v2.
        heads: Relation heads of v2.
    """
    last = len(student.heads) - 1
    if version == "v1":
        values = [relations(side.by_head("value", at)) for side, at in ((student, last), (teacher, layer))]
        return {
            "attention": attention_kl(student.scores(last), teacher.scores(layer), mask),
            "values": attention_kl(values[0], values[1], mask),
        }
    parts = {}
    for kind, name in (("query", "queries"), ("key", "keys"), ("value", "values")):
        ours, theirs = (
            relations(split_heads(side.vectors[kind][at], heads))
            for side, at in ((student, last), (teacher, layer))
        )
        parts[name] = attention_kl(ours, theirs, mask)
    return parts


def training_loss(taught: Callable[[Batch], Inside], *, layer: int, version: str, heads: int) -> Loss:
    """Return `relation_loss` as a training loss."""

    def loss(student: Model, batch: Batch) -> dict[str, Tensor]:
        last = len(student.family.layers(student.network)) - 1
        seen = look_inside(student, batch.inputs, layers=(last,))
        mask = batch.inputs["attention_mask"]
        return relation_loss(seen, taught(batch), mask, layer=layer, version=version, heads=heads)

    return loss


def relation_heads(teacher: Model, student: Model, layer: int, asked: int | None) -> int:
    """Return the relation heads of v2, which must divide both sides' queries.

    Raises:
        ConfigError: They do not.
    """
    heads = asked or heads_of(teacher, layer)
    widths = [
        int(model.family.layers(model.network)[at].query.out_features)  # type: ignore[arg-type]
        for model, at in ((teacher, layer), (student, -1))
    ]
    if any(width % heads for width in widths):
        raise ConfigError(
            f"relation_heads: {heads} must divide the queries of the teacher ({widths[0]}) and the student "
            f"({widths[1]})",
            hint="Choose a common divisor.",
        )
    return heads


def wants_assistant(teacher: Model, student: Model) -> bool:
    """Return whether the student has at most half the depth and half the width of its teacher."""
    sizes = []
    for model in (teacher, student):
        layers = model.family.layers(model.network)
        sizes.append((len(layers), layers[0].hidden))
    return 2 * sizes[1][0] <= sizes[0][0] and 2 * sizes[1][1] <= sizes[0][1]


def _learn(student: Model, config: Config, run: Run, *, layer: int, stage: str) -> None:
    teacher = run.required_teacher
    last = len(student.family.layers(student.network)) - 1
    if config.version == "v1":
        check_equal_heads(
            teacher, student, {last: layer}, remedy="Set version: v2, or give the student as many."
        )
        heads = heads_of(teacher, layer)
    else:
        heads = relation_heads(teacher, student, layer, config.relation_heads)
    loss = training_loss(teacher_inside(run, (layer,)), layer=layer, version=config.version, heads=heads)
    run.fit(student, loss, stage=stage, depends_on=config)


def _assistant(teacher: Model, student: Model, config: Config, run: Run, layer: int) -> Model:
    """Return an assistant of the teacher's depth and the student's widths, trained by the teacher."""
    own = student.family.layers(student.network)[0]
    depth = len(teacher.family.layers(teacher.network))
    shape = Shape(tuple(range(depth)), own.hidden, own.heads, own.ffn)
    assistant = build_student(teacher, shape, init=config.init, seed=run.seed)
    assistant.network.requires_grad_(True)
    run.note(f"An assistant of {depth} layers learns first.")
    _learn(assistant, config, run, layer=layer, stage="assistant")
    return assistant


def compress(model: Model, config: Config, run: Run) -> Model:
    """Return a student of ``model`` (the teacher, unless the run has another one).

    Raises:
        ConfigError: An impossible shape or number of heads, a layer that is not there, or no training data.
    """
    run.require("minilm", NEEDS)
    student = student_of(model, config, run, "minilm")
    run = run.with_teacher(model)
    teacher = run.required_teacher
    depth = len(teacher.family.layers(teacher.network))
    layer = depth - 1 if config.teacher_layer is None else listed_layers(depth, [config.teacher_layer])[0]
    taught = run
    if wants_assistant(teacher, student) if config.assistant is None else config.assistant:
        assistant = _assistant(teacher, student, config, run, layer)
        assistant.network.requires_grad_(False)
        taught, layer = replace(run, teacher=assistant), depth - 1
    _learn(student, config, taught, layer=layer, stage="relations")
    if run.required_task.kind != "masked-lm":
        rate = {"learning_rate": config.task_learning_rate}
        run = replace(run, settings=run.settings.model_copy(update=rate))
        retune(student, teacher, run, epochs=config.task_epochs, config=config, hard_weight=config.alpha_hard)
    return student

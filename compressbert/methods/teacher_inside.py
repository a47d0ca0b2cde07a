"""A teacher's inside beside a student's: run on each batch, since states of every token would soon fill a disk."""

from __future__ import annotations

from collections.abc import Callable

import torch

from compressbert.data.batches import Batch
from compressbert.errors import ConfigError
from compressbert.methods.base import Run
from compressbert.model.handle import Model
from compressbert.model.inside import Inside, look_inside


def teacher_inside(run: Run, layers: tuple[int, ...] = ()) -> Callable[[Batch], Inside]:
    """Return the function that shows the teacher's states, and the vectors of ``layers``, on a batch.

    Raises:
        ConfigError: The run has no teacher, or one that cuts texts into other pieces than the student, or whose layers
            have no vectors apart.
    """
    teacher = run.required_teacher
    if layers:
        teacher.family.check_vectors(teacher.network)
    if run.teacher_rows is not None:
        raise ConfigError(
            "the student cuts texts into other pieces than its teacher, so their states cannot be compared",
            hint="Use pretrained_distillation or small_vocab, which compare answers.",
        )

    def inside(batch: Batch) -> Inside:
        teacher.network.to(batch.inputs["input_ids"].device)
        with torch.no_grad():
            return look_inside(teacher, batch.inputs, layers=layers)

    return inside


def heads_of(model: Model, layer: int) -> int:
    """Return how many heads a layer has."""
    return model.family.layers(model.network)[layer].heads


def check_equal_heads(teacher: Model, student: Model, pairs: dict[int, int], *, remedy: str) -> None:
    """Check that matched layers have as many heads, so that attention can be compared head by head.

    Args:
        teacher: One side.
        student: The other.
        pairs: Layer of the student to layer of the teacher.
        remedy: What to set otherwise.

    Raises:
        ConfigError: They have not, or one side has no queries, keys and values apart.
    """
    for model in (teacher, student):
        model.family.check_vectors(model.network)
    for own, other in pairs.items():
        ours, theirs = heads_of(student, own), heads_of(teacher, other)
        if ours != theirs:
            raise ConfigError(
                f"layer {own} of the student has {ours} heads, layer {other} of its teacher {theirs}",
                hint=remedy,
            )

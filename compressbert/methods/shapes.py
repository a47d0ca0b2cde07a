"""The shape of a student and where it starts: settings that distillation methods share."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from compressbert.config.schema import Positive
from compressbert.errors import ConfigError
from compressbert.methods.base import MethodConfig, Run, refuse_int8, trainable_copy
from compressbert.model.handle import Model
from compressbert.model.student import Init, Shape, build_student
from compressbert.nn.layer_maps import Choice, choose_layers

_SHAPE = ("layers", "hidden", "heads", "ffn")


class StudentConfig(MethodConfig):
    """Settings of a method whose student has a shape of its own."""

    takes_student: ClassVar[bool] = True

    layers: Positive | tuple[int, ...] | None = Field(
        None,
        description="How many layers the student has, or which of the teacher's it starts from. Unset: half.",
    )
    select: Choice = Field(
        "every-other", description="Which layers it starts from, when `layers` is a number."
    )
    hidden: Positive | None = Field(None, description="Its width. Unset: the teacher's.")
    heads: Positive | None = Field(None, description="Its heads in each layer. Unset: the teacher's.")
    ffn: Positive | None = Field(None, description="Its FFN neurons in each layer. Unset: the teacher's.")
    init: Init = Field(
        "teacher",
        description="teacher: from its layers, cut where the student is narrower. random: from nothing. "
        "`student: FOLDER` beside the method starts from a model instead.",
    )


def student_of(teacher: Model, config: StudentConfig, run: Run, method: str) -> Model:
    """The untrained student that ``config`` describes, every weight taking gradients; the run notes how it starts.

    Raises:
        ConfigError: The shape is impossible, or given although the run brings a student.
        InputError: The teacher is int8.
    """
    refuse_int8(teacher, method)
    if run.student is not None:
        return _given(run.student, config, run, method)
    layers = _layers(teacher, config)
    shape = Shape(layers, hidden=config.hidden, heads=config.heads, ffn=config.ffn)
    student = build_student(teacher, shape, init=config.init, seed=run.seed)
    student.network.requires_grad_(True)
    if config.init == "random":
        run.note(f"The student has {len(layers)} layers of random weights.")
    else:
        cut = any(getattr(config, name) is not None for name in ("hidden", "heads", "ffn"))
        kept = ", ".join(map(str, layers))
        run.note(f"The student starts from {'a cut of ' if cut else ''}layers {kept} of its teacher.")
    return student


def _layers(teacher: Model, config: StudentConfig) -> tuple[int, ...]:
    if config.init == "random" and isinstance(config.layers, int):
        return tuple(range(config.layers))  # may be more than the teacher has
    return choose_layers(len(teacher.family.layers(teacher.network)), config.layers, config.select)


def _given(student: Model, config: StudentConfig, run: Run, method: str) -> Model:
    shaped = [name for name in _SHAPE if getattr(config, name) is not None]
    if shaped:
        raise ConfigError(
            f"the student is a model with a shape of its own, but {', '.join(shaped)} is set too",
            hint="Leave the shape out, or the student.",
        )
    run.note(f"The student starts from a model of {len(student.family.layers(student.network))} layers.")
    return trainable_copy(student, method)

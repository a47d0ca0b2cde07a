"""Compact BERT: a small network trained without a teacher, from scratch or from a cut of a larger one.

Paper: I. Turc et al. Well-Read Students Learn Better: On the Importance of Pre-training. 2019. arXiv 1908.08962

What is done: a student of one of the paper's shapes (layers L, width H, H / 64 heads, 4 · H neurons), or of any other,
learns the loss of the data's own task alone:

- raw text (task: masked-lm): pre-training; the result is then fine-tuned like any encoder;
- data of a task: plain training, which every distilled student of the same shape has to beat.

The model given is only read for its vocabulary, its head and, with `init: teacher`, its weights.

Differs from the paper: no next-sentence prediction, and a corpus of the user's size. A student that starts from the
teacher (`init: teacher`) is a truncation, not the paper's initialisation; the record says which it was.

Cost: training a network of the student's size.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from compressbert.methods.base import Run
from compressbert.methods.knowledge import task_loss
from compressbert.methods.shapes import StudentConfig, student_of
from compressbert.model.handle import Model
from compressbert.model.student import Init

NEEDS = ("data",)

SURVEY = {
    "row": "BERT-small",
    "compression": 3.8,
    "retained": 91,
    "speedup": None,
    "layers": 4,
    "evaluated_on": "all GLUE tasks",
}

TRAIN_DEFAULTS = {"epochs": 4.0, "batch_size": 32, "learning_rate": 1e-4}

SIZES = {"tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "medium": (8, 512)}  # layers, width


class Config(StudentConfig):
    """Settings of compact."""

    size: Literal["tiny", "mini", "small", "medium"] | None = Field(
        None, description="A shape of the paper, for what is not set: 2×128, 4×256, 4×512, 8×512."
    )
    init: Init = Field("random", description="random (the paper's), or teacher: cut from the model's layers.")


def shaped(config: Config) -> Config:
    """Return ``config`` with the sizes of its named shape where nothing else is set."""
    if config.size is None:
        return config
    layers, hidden = SIZES[config.size]
    sizes = {"layers": layers, "hidden": hidden, "heads": hidden // 64, "ffn": 4 * hidden}
    unset = {name: size for name, size in sizes.items() if getattr(config, name) is None}
    return config.model_copy(update=unset)


def compress(model: Model, config: Config, run: Run) -> Model:
    """Return a small network trained on ``run``'s data; ``model`` gives vocabulary and head.

    Raises:
        ConfigError: The shape is impossible, or there is no training data.
    """
    run.require("compact", NEEDS)
    student = student_of(model, shaped(config), run, "compact")
    run.fit(student, task_loss(run), depends_on=config)
    return student

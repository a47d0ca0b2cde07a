"""MiniBERT: a small tagger that learns many languages from its teacher's answers to unlabelled text.

Paper: H. Tsai et al. Small and Practical BERT Models for Sequence Labeling. EMNLP 2019. arXiv 1909.00100

What is done: the teacher is a large, best multilingual, encoder fine-tuned on the labelled data. The student is
shallower and narrower; no label is read while it learns. With z the logits at the first piece of each word,

    T² · KL(softmax(z_t / T) ‖ softmax(z_s / T)), mean over words,

whose gradient is T² times that of the cross-entropy with the teacher's distribution. The words are those of
`data.unlabelled`: one file for each language, sampled so that small ones are heard (rows^0.7, as multilingual BERT
was trained); without it, those of the training rows. Other kinds of task learn in the same way from their texts.

Differs from the paper: how its student starts and its T are not known to us. Here the student starts from a cut of
its teacher, from nothing (`init: random`) or from a model (`student: FOLDER`), and T is 1. `task_epochs` trains it on
the labels afterwards, which the paper does without.

Cost: the teacher runs with the student on every batch of words; other tasks cache its answers.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from compressbert.data.batches import Batch
from compressbert.methods.base import Run
from compressbert.methods.knowledge import forward, retune, soft_loss, teacher_signals
from compressbert.methods.shapes import StudentConfig, student_of
from compressbert.model.handle import Model
from compressbert.train.loop import Loss

NEEDS = ("data",)

SURVEY = {
    "row": "MiniBERT",
    "compression": 6,
    "retained": 98,
    "speedup": 27,
    "layers": 3,
    "evaluated_on": "CoNLL-18: parts of speech and morphology",
    "remark": "Relative to multilingual BERT.",
}

TRAIN_DEFAULTS = {"epochs": 3.0, "batch_size": 32, "learning_rate": 1e-4}


class Config(StudentConfig):
    """Settings of minibert."""

    reads_unlabelled: ClassVar[bool] = True

    temperature: Annotated[float, Field(gt=0)] = Field(1.0, description="T of the soft targets.")
    task_epochs: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="Epochs of soft targets and labels of the training rows afterwards; 0 is the paper's.",
    )


def training_loss(run: Run, temperature: float) -> Loss:
    """Return the loss of the module's docstring on the run's training rows, whose labels are not read."""
    task = run.required_task
    teacher = teacher_signals(run, hidden=False)

    def loss(student: Model, batch: Batch) -> dict[str, Tensor]:
        _, said = forward(student, batch, task=task, hidden=False)
        return {"soft": soft_loss(task.kind, "kl", said.logits, teacher(batch).logits, temperature)}

    return loss


def compress(model: Model, config: Config, run: Run) -> Model:
    """Return a student of ``model`` (the teacher, unless the run has another one).

    Raises:
        ConfigError: An impossible shape, or there are no texts.
    """
    run.require("minibert", NEEDS)
    student = student_of(model, config, run, "minibert")
    run = run.with_teacher(model)
    texts = run.unlabelled
    source = "texts without labels"
    if texts is None:
        texts, source = run.training_data, "training rows, whose labels it does not read"
    run.note(f"The student learns from {len(texts):,} {source}.")
    quiet = run.on(texts)
    quiet.fit(student, training_loss(quiet, config.temperature), stage="distill", depends_on=config)
    retune(student, run.required_teacher, run, epochs=config.task_epochs, config=config)
    return student

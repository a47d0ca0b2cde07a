"""Pre-trained distillation: a compact pre-trained student learns its teacher's answers, then perhaps the labels.

Paper: I. Turc et al. Well-Read Students Learn Better: On the Importance of Pre-training. 2019. arXiv 1908.08962

What is done, in three steps:

1. the student is pre-trained on raw text: `compact` on data with `task: masked-lm`; its folder is given here as
   `student:` (without it the student starts from a cut of the teacher, or at random: the paper's ablation);
2. it learns KL(softmax(z_t) ‖ softmax(z_s)) on texts in the task's form, whose labels are not read;
3. it is fine-tuned on the labels of the same rows for `finetune_epochs`; 0 leaves that out.

Differs from the paper: the transfer set and the labelled set are the same file; for another transfer set run the
method on it with `finetune_epochs: 0` and fine-tune after it.

Cost: one pass of the teacher over the data, then training a network of the student's size.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from compressbert.methods.base import Run
from compressbert.methods.knowledge import retune_loss, task_loss
from compressbert.methods.shapes import StudentConfig, student_of
from compressbert.model.handle import Model

NEEDS = ("data",)

SURVEY = {
    "row": "PD",
    "compression": 1.6,
    "retained": 98,
    "speedup": 2.5,
    "layers": 6,
    "evaluated_on": "GLUE without WNLI, CoLA and STS-B",
    "remark": "The speed-up is over BERT-large.",
}

TRAIN_DEFAULTS = {"epochs": 3.0, "batch_size": 32, "learning_rate": 1e-4}


class Config(StudentConfig):
    """Settings of pretrained_distillation."""

    temperature: Annotated[float, Field(gt=0)] = Field(1.0, description="T of the soft targets.")
    finetune_epochs: Annotated[float, Field(ge=0)] = Field(
        1.0, description="Passes over the labels afterwards; 0 for none."
    )

    def reads_labels(self) -> bool:
        """Where they have weight."""
        return self.finetune_epochs > 0


def compress(model: Model, config: Config, run: Run) -> Model:
    """Return a student of ``model`` (the teacher, unless the run has another one).

    Raises:
        ConfigError: The shape is impossible, or there is no training data.
    """
    run.require("pretrained_distillation", NEEDS)
    student = student_of(model, config, run, "pretrained_distillation")
    run = run.with_teacher(model)
    soft = retune_loss(run, temperature=config.temperature, hard_weight=0.0)
    run.fit(student, soft, stage="transfer", depends_on=config)
    if config.finetune_epochs:
        run.fit(student, task_loss(run), stage="finetune", epochs=config.finetune_epochs, depends_on=config)
    return student

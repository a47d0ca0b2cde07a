"""Small vocabulary: a student with a few thousand word pieces of its own, taught across the two vocabularies.

Paper: S. Zhao et al. Extreme Language Model Compression with Optimal Subwords and Shared Projections. arXiv 1909.11687
Paper: S. Zhao et al. Extremely Small BERT Models from Mixed-Vocabulary Training. EACL 2021. arXiv 1909.11687 (v2)

What is done: a WordPiece vocabulary of a few thousand pieces is trained on the training texts; the student reads these
alone. A copy of the teacher gets a second word table for them and reads rows in which each word is cut by the small
vocabulary with chance `mixing`, else by its own, so that both tables come to mean the same. Raw text
(`task: masked-lm`) gives the paper's own training, data of a task the same with the task's loss:

    v1: L_teacher(mixed rows) + L_student(own pieces) + projection_weight · Σ over pairs of ‖U_aᵀ θ_s U_b − θ_t‖²
        trained together; a pair are the same tensor of a student's layer and of the teacher's layer it starts from,
        and U are matrices shared by all layers (`direction: down` moves the teacher's tensors instead)
    v2: first L_teacher(mixed rows) alone, its second table as narrow as the student's and widened by a matrix;
        then the student starts from that table

The student is then trained alone for `task_epochs`: on the labels and the soft targets of the unchanged teacher; on
raw text on its masked words; on questions, and with vectors of another width, on the labels (nothing of the teacher's
stands at the same place).

Differs from the paper: the authors pre-train on a large corpus, from BERT-base (v1) or BERT-large (v2), and fine-tune
without a teacher. Students of 4 · H neurons are 17 times (H = 192) and 182 times (H = 48) smaller than BERT-base, not
the 5.7 and 62 times they report, so theirs must be wider inside; every width is free here. U has one matrix for each
kind of feature (residual stream, heads, neurons). The second table starts at the mean of the teacher's pieces, the
student at a cut of the teacher unless `init: random`, and soft targets are used.

Cost: v1 trains teacher and student together; v2 the teacher, then the student.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from compressbert.config.schema import Fraction, Positive
from compressbert.data.alignment import same_examples
from compressbert.data.batches import Batch
from compressbert.data.encode import Encoded
from compressbert.data.mixed import Mixer
from compressbert.data.own_vocabulary import small_tokenizer
from compressbert.errors import ConfigError
from compressbert.methods.base import Run, labels_of, trainable_copy
from compressbert.methods.knowledge import retune, task_loss
from compressbert.methods.shapes import StudentConfig, student_of
from compressbert.model.handle import Model
from compressbert.model.vocabulary import add_vocabulary, change_vocabulary, pieces_in, word_table
from compressbert.model.weight_pairs import weight_pairs
from compressbert.nn.layer_maps import choose_layers
from compressbert.nn.shared_projection import Direction, Pair, SharedProjections

NEEDS = ("data",)

SURVEY = {
    "row": "BERT-48",
    "compression": 62,
    "retained": 87,
    "speedup": 77,
    "layers": 12,
    "evaluated_on": "MNLI, MRPC, SST-2",
    "remark": "BERT-192: 5.7× smaller, 93 % retained, 22× faster. Speeds count operations.",
}

TRAIN_DEFAULTS = {"epochs": 3.0, "batch_size": 32, "learning_rate": 1e-4}


class Config(StudentConfig):
    """Settings of small_vocab."""

    variant: Literal["v1", "v2"] = Field(
        "v1", description="v1: teacher and student together, tied by projections. v2: one after the other."
    )
    vocabulary: Positive = Field(4928, description="Largest number of word pieces; characters are all kept.")
    mixing: Fraction = Field(
        0.5, description="Chance of each of the teacher's words to be cut by the small vocabulary."
    )
    projection_weight: Annotated[float, Field(ge=0)] = Field(
        1e-4, description="v1: weight of the squared distance between projected weights; 0 for none."
    )
    direction: Direction = Field("up", description="v1: up moves the student's weights, down the teacher's.")
    task_epochs: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Epochs of the student alone afterwards. Unset: 3, but none on raw text with v1."
    )


def train_together(student: Model, joint: Model, mixer: Mixer, config: Config, run: Run) -> None:
    """v1: train the student and a teacher of two vocabularies on the same rows, tied by shared projections."""
    own, theirs, task, alone = run.training_data, _teacher_rows(run), run.required_task, task_loss(run)
    extra: dict[str, nn.Module] = {"teacher": joint.network}
    pairs: list[Pair] = []
    if config.projection_weight:
        pairs = weight_pairs(student, joint, _matched_layers(student, joint, config))
        extra["projections"] = SharedProjections(pairs, config.direction)

    def loss(model: Model, batch: Batch) -> dict[str, Tensor]:
        parts = alone(model, batch)
        mixed = mixer.batch(theirs, same_examples(batch, own, theirs)).to(batch.inputs["input_ids"].device)
        parts["teacher"] = task.loss(joint(**mixed.inputs).logits.float(), labels_of(mixed))
        if pairs:
            parts["projection"] = config.projection_weight * extra["projections"](pairs)
        return parts

    run.fit(student, loss, stage="together", depends_on=config, extra_modules=extra)


def train_table(joint: Model, mixer: Mixer, config: Config, run: Run) -> None:
    """v2: train a teacher of two vocabularies alone."""
    theirs, task = _teacher_rows(run), run.required_task

    def loss(model: Model, batch: Batch) -> dict[str, Tensor]:
        mixed = mixer.batch(theirs, batch.examples.numpy()[: len(batch) // theirs.group] // theirs.group)
        mixed = mixed.to(batch.inputs["input_ids"].device)
        return {"teacher": task.loss(model(**mixed.inputs).logits, labels_of(mixed))}

    alone = replace(run, train=theirs).for_phase()  # validation rows are cut for the student
    alone.fit(joint, loss, stage="table", depends_on=config)


def train_alone(student: Model, teacher: Model, epochs: float, config: Config, run: Run) -> None:
    """Train the student on the task, and where answers can be compared on its teacher's soft targets."""
    kind = run.required_task.kind
    apart = kind == "sentence-embedding" and student.width != teacher.width
    if kind not in ("masked-lm", "question-answering") and not apart:
        retune(student, teacher, run, epochs=epochs, config=config)
    elif epochs:
        run.fit(student, task_loss(run), stage="alone", epochs=epochs, depends_on=config)


def compress(model: Model, config: Config, run: Run) -> Model:
    """Return a student of ``model`` (the teacher, unless the run has another one) with word pieces of its own.

    Raises:
        ConfigError: An impossible shape, no training data, or a given student without a vocabulary of its own.
        InputError: The teacher's tokenizer lacks a special token, or does not tell where words begin.
    """
    run.require("small_vocab", NEEDS)
    student = student_of(model, config, run, "small_vocab")
    run = run.with_teacher(model)
    teacher = run.required_teacher
    if run.student is None:
        corpus = run.training_data.origin
        if corpus is None:
            raise ConfigError("small_vocab needs the texts of its rows", hint="Give all rows, not a sample.")
        tokenizer = small_tokenizer(teacher.tokenizer, corpus.split, size=config.vocabulary)
        change_vocabulary(student, tokenizer, pieces_in(teacher.tokenizer, tokenizer))
        run = run.for_tokenizer(tokenizer)
    small = student.tokenizer
    run.note(
        f"The student has {len(small):,} word pieces of its own, its teacher {len(teacher.tokenizer):,}."
    )
    joint = trainable_copy(teacher, "small_vocab")
    width = word_table(student).shape[1] if config.variant == "v2" else None
    table = add_vocabulary(joint, small, width=width)
    mixer = Mixer(teacher.tokenizer, small, config.mixing, _positions(teacher))
    epochs = config.task_epochs
    if config.variant == "v1":
        train_together(student, joint, mixer, config, run)
    else:
        train_table(joint, mixer, config, run)
        with torch.no_grad():
            word_table(student).copy_(table.other.weight)
    if epochs is None:
        epochs = 0.0 if config.variant == "v1" and run.required_task.kind == "masked-lm" else 3.0
    train_alone(student, teacher, epochs, config, run)
    return student


def _positions(model: Model) -> int:
    """How many pieces a row of ``model`` may have."""
    embeddings = model.family.embeddings(model.network)
    return int(embeddings.position.num_embeddings) - embeddings.position_offset  # type: ignore[arg-type]


def _teacher_rows(run: Run) -> Encoded:
    if run.teacher_rows is None:
        raise ConfigError(
            "the student that was given has its teacher's vocabulary",
            hint="Leave `student` out, or give one that small_vocab made.",
        )
    return run.teacher_rows


def _matched_layers(student: Model, teacher: Model, config: Config) -> tuple[int, ...]:
    """The teacher's layer for each of the student's: those it started from, or spread alike."""
    own, theirs = (len(model.family.layers(model.network)) for model in (student, teacher))
    if isinstance(config.layers, tuple) and max(config.layers) < theirs:
        return config.layers
    if own > theirs:
        raise ConfigError(
            f"the student has {own} layers, its teacher {theirs}, so their weights cannot be paired",
            hint="Set projection_weight: 0, variant: v2, or fewer layers.",
        )
    return choose_layers(theirs, own, config.select)

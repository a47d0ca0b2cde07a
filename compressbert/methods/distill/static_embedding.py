"""Static embedding: a table with a vector for each word piece, whose mean over a text is all that the student computes.

Paper: P. Gupta et al. Obtaining Better Static Word Embeddings Using Contextual Embedding Models. 2021. arXiv 2106.04302
The recipe follows the library Model2Vec (T. van Dongen and S. Tulkens, 2024), which has no paper.

What is done:

- The teacher reads each word piece of its vocabulary alone, [CLS] piece [SEP]; the mean of its states is the piece's
  vector. The vectors are centred, turned onto their `width` principal axes, and weighted by a / (a + p), p being how
  often the piece occurs in the training rows (by Zipf's law without any). Special tokens start at zero.
- The table is then tuned on the user's texts. A classifier learns a head with it: L = ‖z_t − z_s‖² between logits
  (or T² · KL with `soft: kl`). A sentence encoder learns 1 − cos between its vector and the teacher's, which is
  turned onto the same axes. The labels count only where `alpha_hard` is set.
- Pairs in one input are read apart, and the head sees u, v, |u − v| and u ∘ v.

Without `tune` nothing is trained and no data is needed, for a sentence encoder.

Differs from the paper: it learns vectors of words from a corpus by a CBOW objective; here they are the teacher's own
outputs, as in Model2Vec. Model2Vec keeps the table as it is under a classifier's head; here both are trained.

Cost: one pass of the teacher over its vocabulary and one over the data, then seconds.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from compressbert.config.schema import Positive, TaskKind
from compressbert.data.encode import Encoded, token_counts
from compressbert.data.files import key_of
from compressbert.errors import ConfigError, InputError
from compressbert.methods.base import MethodConfig, Run, refuse_int8
from compressbert.methods.knowledge import Soft
from compressbert.methods.text_student import (
    PER_TOKEN,
    bare_encoder,
    holds_pairs,
    refuse_kinds,
    soft_target_training,
)
from compressbert.model.architectures.text_vectors import StaticEmbeddingConfig
from compressbert.model.handle import Model
from compressbert.model.pooling import Pooling
from compressbert.model.student import build_own_student
from compressbert.nn.losses import hidden_cosine
from compressbert.nn.word_table import frequency_weights, principal_axes, ranked_counts
from compressbert.train.teacher import teacher_outputs

NEEDS = ("data",)

SURVEY = None

TRAIN_DEFAULTS = {"epochs": 5.0, "batch_size": 32, "learning_rate": 1e-3, "precision": "fp32"}


class Config(MethodConfig):
    """Settings of static_embedding."""

    width: Positive = Field(256, description="Width of the table; at most the teacher's is used.")
    sif: Annotated[float, Field(ge=0)] = Field(
        1e-4,
        description="a of the weights a / (a + p): less means that frequent pieces weigh less; 0: all alike.",
    )
    head: Annotated[int, Field(ge=0)] = Field(
        0, description="Width of a hidden layer between a text's vector and the labels; 0: one linear map."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="On what the last linear map reads."
    )
    soft: Soft = Field("mse", description="mse: squared difference of logits. kl: of probabilities.")
    alpha_soft: Annotated[float, Field(ge=0)] = Field(1.0, description="Weight of the teacher's outputs.")
    alpha_hard: Annotated[float, Field(ge=0)] = Field(0.0, description="Weight of the labels.")
    tune: bool = Field(True, description="Train on the data. Without, a sentence encoder needs none.")

    @model_validator(mode="after")
    def _something_to_learn(self) -> Config:
        if not (self.alpha_soft or self.alpha_hard):
            raise ValueError("alpha_soft and alpha_hard are both 0, so nothing would be learned")
        return self

    def needs(self, declared: tuple[str, ...]) -> tuple[str, ...]:
        """Data only where the table is tuned."""
        return declared if self.tune else ()

    def reads_labels(self) -> bool:
        """Where they have weight."""
        return self.alpha_hard > 0


def lone_pieces(model: Model) -> Encoded:
    """Every word piece as a sequence of its own: [CLS] piece [SEP].

    Raises:
        InputError: The tokenizer has no such special tokens.
    """
    start, end = model.tokenizer.cls_token_id, model.tokenizer.sep_token_id
    if start is None or end is None:
        raise InputError(
            "The teacher's tokenizer has no tokens for start and end of a text.",
            hint="Use a BERT-like teacher.",
        )
    count = int(model.network.config.vocab_size)
    ids = np.full((count, 3), (start, -1, end), dtype=np.int32)
    ids[:, 1] = np.arange(count)
    typed = "token_type_ids" in model.tokenizer.model_input_names
    return Encoded(
        ids=ids.reshape(-1),
        types=np.zeros(3 * count, np.uint8) if typed else None,
        offsets=np.arange(0, 3 * count + 1, 3, dtype=np.int64),
        labels=None,
        truncated=0,
        max_length=3,
        key=key_of("lone pieces", count, start, end, typed),
    )


def word_table(vectors: Tensor, axes: Tensor, weights: Tensor, special: tuple[int, ...]) -> Tensor:
    """The student's first table, (V, width).

    Args:
        vectors: (V, H), the teacher's.
        axes: (H, width).
        weights: (V,) of each piece.
        special: Pieces whose rows are 0.
    """
    table = (vectors - vectors.mean(0)) @ axes * weights[:, None]
    table[list(special)] = 0.0
    return table


def piece_weights(run: Run, config: Config, vocabulary: int) -> Tensor:
    """The weight of each word piece, (V,): by the training rows, or by rank without any."""
    if config.sif == 0:
        return torch.ones(vocabulary)
    counted = run.train is not None
    counts = (
        torch.from_numpy(token_counts(run.training_data, vocabulary))
        if counted
        else ranked_counts(vocabulary)
    )
    return frequency_weights(counts, config.sif)


def _pooling(teacher: Model, kind: TaskKind) -> Pooling | None:
    if kind != "sentence-embedding":
        return None
    return Pooling("mean", teacher.pooling.normalize if teacher.pooling else True)


def _kind(run: Run, config: Config) -> TaskKind:
    kind: TaskKind = run.task.kind if run.task is not None else "sentence-embedding"
    refuse_kinds(kind, PER_TOKEN, "static_embedding")
    if not config.tune and kind != "sentence-embedding":
        raise ConfigError(
            "tune: false leaves a classifier without a head, which is learned from the teacher's outputs",
            hint="Leave tune out, or distil a sentence encoder.",
        )
    return kind


def compress(model: Model, config: Config, run: Run) -> Model:
    """Return a table made of ``model`` (the teacher, unless the run has another one), tuned on ``run``'s data.

    Raises:
        ConfigError: A kind of task with an answer for each token, or there is no training data.
        InputError: The teacher is int8, or is no encoder with start and end tokens.
    """
    refuse_int8(model, "static_embedding")
    run.require("static_embedding", config.needs(NEEDS))
    run = run.with_teacher(model)
    teacher, kind = run.required_teacher, _kind(run, config)
    encoder = bare_encoder(teacher, first_token=False)
    pieces = lone_pieces(teacher)
    states = teacher_outputs(encoder, pieces, work=run.work, precision=run.settings.precision)
    vectors = torch.from_numpy(np.array(states.rows))
    axes = principal_axes(vectors, min(config.width, vectors.shape[1]))
    width = axes.shape[1]
    shape = StaticEmbeddingConfig(
        embedding_size=width,
        hidden_size=width,
        head_size=config.head,
        dropout=config.dropout,
        pairs=holds_pairs(run),
    )
    student = build_own_student(teacher, shape, kind=kind, seed=run.seed)
    student.pooling = _pooling(teacher, kind)
    special = tuple(teacher.tokenizer.all_special_ids)
    table = word_table(vectors, axes, piece_weights(run, config, len(vectors)), special)
    with torch.no_grad():
        student.network.get_input_embeddings().weight.copy_(table)
    run.note(f"The student is the mean of a table's rows: {len(table):,} word pieces, {width} wide.")
    if config.tune:
        turned = kind == "sentence-embedding"
        loss = soft_target_training(
            run, config.soft, alpha_soft=config.alpha_soft, alpha_hard=config.alpha_hard,
            distance=(lambda ours, theirs: hidden_cosine(ours, theirs @ axes.to(theirs))) if turned else None,
        )  # fmt: skip
        run.fit(student, loss, stage="tune", depends_on=config)
    return student

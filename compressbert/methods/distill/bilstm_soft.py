"""BiLSTM-soft: an LSTM over word pieces that regresses its teacher's logits.

Paper: R. Tang et al. Distilling Task-Specific Knowledge from BERT into Simple Neural Networks. 2019. arXiv 1903.12136

What is done: the student reads a text's word vectors in both directions; the two last states, side by side, go through
a hidden layer with ReLU and dropout to the logits. Pairs in one input are read apart by the same LSTM, and the hidden
layer sees u, v, |u − v| and u ∘ v. With z the logits,

    alpha · L_task + (1 − alpha) · ‖z_t − z_s‖²        mean over examples, alpha = 0: no labels

The paper trains on texts made from the data's own by rules, which its teacher labels; `augment: {kind: rules}` beside
the method makes them.

Differs from the paper: words are the teacher's word pieces, and their vectors start from its word embeddings, turned
onto their principal axes (word2vec there); as there, a second table is left as it starts (`multichannel`). AdamW in
place of Adadelta. The published code's max-pool option, which pools what the LSTM reads, is not offered. The
paper's figures leave the word vectors out of the size; here they count.

Cost: one pass of the teacher over the data, then training a small network.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from compressbert.config.schema import Fraction, Positive, TaskKind
from compressbert.methods.base import MethodConfig, Run, refuse_int8
from compressbert.methods.text_student import PER_TOKEN, holds_pairs, refuse_kinds, soft_target_training
from compressbert.model.architectures.text_vectors import BiLSTMConfig
from compressbert.model.handle import Model
from compressbert.model.student import Init, build_own_student
from compressbert.nn.word_table import principal_axes

NEEDS = ("data",)

SURVEY = {
    "row": "BiLSTM-soft",
    "compression": 110,
    "retained": 91,
    "speedup": 434,
    "layers": 1,
    "evaluated_on": "MNLI, QQP, SST-2",
    "remark": "Size without word vectors; speed against BERT-large.",
}

TRAIN_DEFAULTS = {"epochs": 10.0, "batch_size": 50, "learning_rate": 1e-3, "precision": "fp32"}

REFUSED: tuple[TaskKind, ...] = (*PER_TOKEN, "sentence-embedding")


class Config(MethodConfig):
    """Settings of bilstm_soft."""

    embedding: Positive = Field(300, description="Width of the word vectors; at most the teacher's is used.")
    multichannel: bool = Field(
        True,
        description="Read a second table too, which stays as it starts: twice the width, twice the size.",
    )
    init: Init = Field("teacher", description="Where word vectors start: the teacher's, or random.")
    hidden: Positive = Field(150, description="Units in each direction; the paper takes 300 for pairs.")
    head: Annotated[int, Field(ge=0)] = Field(
        200, description="Width of the hidden layer in front of the labels; 0: none."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="Behind the hidden layer.")
    alpha: Fraction = Field(0.0, description="Share of the labels; the teacher's logits have the rest.")

    def reads_labels(self) -> bool:
        """Where they have weight."""
        return self.alpha > 0


def first_vectors(table: Tensor, width: int) -> Tensor:
    """The teacher's word vectors on their strongest axes, (V, width): centred, and of variance 1 on average."""
    axes = principal_axes(table, width)
    turned = (table - table.mean(0)) @ axes
    return turned / turned.std()


def compress(model: Model, config: Config, run: Run) -> Model:
    """Return an LSTM that learned from ``model`` (the teacher, unless the run has another one) on ``run``'s data.

    Raises:
        ConfigError: A kind of task that is not one answer for each text, or there is no training data.
        InputError: The teacher is int8.
    """
    refuse_int8(model, "bilstm_soft")
    run.require("bilstm_soft", NEEDS)
    run = run.with_teacher(model)
    teacher, kind = run.required_teacher, run.required_task.kind
    refuse_kinds(kind, REFUSED, "bilstm_soft")
    words = teacher.network.get_input_embeddings().weight.detach().float().cpu()
    width = min(config.embedding, words.shape[1])
    shape = BiLSTMConfig(
        embedding_size=width,
        frozen_size=width if config.multichannel else 0,
        hidden_size=2 * config.hidden,
        head_size=config.head,
        dropout=config.dropout,
        pairs=holds_pairs(run),
    )
    student = build_own_student(teacher, shape, kind=kind, seed=run.seed)
    embeddings = student.network.base_model.embeddings
    with torch.no_grad():
        if config.init == "teacher":
            embeddings.word_embeddings.weight.copy_(first_vectors(words, width))
        if embeddings.frozen_embeddings is not None:
            embeddings.frozen_embeddings.weight.copy_(embeddings.word_embeddings.weight)
            embeddings.frozen_embeddings.requires_grad_(False)
    run.note(
        f"The student is an LSTM of {config.hidden} units in each direction over {len(words):,} word pieces, "
        f"{width} wide{' in each of two tables' if config.multichannel else ''}."
    )
    loss = soft_target_training(run, "mse", alpha_soft=1 - config.alpha, alpha_hard=config.alpha)
    run.fit(student, loss, stage="distill", depends_on=config)
    return student

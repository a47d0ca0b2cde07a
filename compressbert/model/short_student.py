"""WaLDORf students: networks of `architectures/waldorf.py` with word vectors from their teacher."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from compressbert.config.schema import TaskKind
from compressbert.model.architectures.waldorf import WaldorfConfig
from compressbert.model.handle import Model
from compressbert.model.narrow_words import leading, principal_basis, vectors_of, weight_of
from compressbert.model.student import build_own_student


def build_short(teacher: Model, config: WaldorfConfig, *, kind: TaskKind, seed: int) -> Model:
    """A student of random layers whose embeddings are the teacher's in the student's dimensions.

    Args:
        teacher: Left as it is.
        config: Of the student; vocabulary, positions and labels are written into it.
        kind: What its head is for.
        seed: Of the random weights.

    Raises:
        ConfigError: There is no head for this kind of task, or the student is wider than its teacher.
    """
    words, positions, types = vectors_of(teacher)
    basis = principal_basis(teacher, config.hidden_size)
    config.max_position_embeddings = len(positions)
    config.type_vocab_size = 1 if types is None else len(types)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.1
    student = build_own_student(teacher, config, kind=kind, seed=seed)
    own: Any = student.network.base_model.embeddings
    led, width = words @ basis, config.embedding_size
    kept = leading(led, min(width, led.shape[1]))
    weight_of(own.word_embeddings).zero_()[:, : kept.shape[1]] = led @ kept
    weight_of(own.word_projection).zero_()[:, : kept.shape[1]] = kept
    weight_of(own.position_embeddings).copy_(positions @ basis)
    weight_of(own.token_type_embeddings)[:] = 0 if types is None else types @ basis
    return student


def short_layers(student: Model) -> list[nn.Module]:
    """The layers of a student that run on the short sequence."""
    return list(cast(nn.ModuleList, student.network.base_model.layers))

"""Tiny networks that make one vector of a text."""

from __future__ import annotations

from typing import Any

from compressbert.config.schema import TaskKind
from compressbert.model.architectures.text_vectors import BiLSTMConfig, StaticEmbeddingConfig
from compressbert.model.handle import Model
from compressbert.model.student import build_own_student
from tests.tiny import tiny_network, tiny_tokenizer

KINDS = ("static", "bilstm")


def tiny_text_vectors(
    kind: str, *, task: TaskKind = "sequence-classification", pairs: bool = False, **options: Any
) -> Model:
    """A network of random weights with the tiny BERT's tokenizer."""
    teacher = Model(tiny_network("bert"), tiny_tokenizer("bert"), {})
    if kind == "static":
        config: Any = StaticEmbeddingConfig(embedding_size=8, hidden_size=8, pairs=pairs, **options)
    else:
        config = BiLSTMConfig(embedding_size=6, hidden_size=10, pairs=pairs, **options)
    return build_own_student(teacher, config, kind=task)

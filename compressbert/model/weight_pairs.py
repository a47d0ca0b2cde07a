"""The tensors of a student's encoder beside those of its teacher's, and over what kind of feature each axis runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from compressbert.model.handle import Model
from compressbert.nn.shared_projection import Pair
from compressbert.nn.two_vocabularies import JointEmbedding

# Part of a layer to the kinds of feature it writes and reads; a LayerNorm and a bias have the first alone.
_LAYER = {
    "query": ("heads", "hidden"),
    "key": ("heads", "hidden"),
    "value": ("heads", "hidden"),
    "attention_out": ("hidden", "heads"),
    "attention_norm": ("hidden",),
    "ffn_in": ("neurons", "hidden"),
    "ffn_out": ("hidden", "neurons"),
    "ffn_norm": ("hidden",),
}


def weight_pairs(student: Model, teacher: Model, layers: Sequence[int]) -> list[Pair]:
    """Every weight of the student's encoder with the teacher's that it stands for.

    Args:
        student: Its word table is paired with the second one of ``teacher``.
        teacher: With two vocabularies, the second being the student's.
        layers: The teacher's layer for each of the student's.
    """
    found = list(_embeddings(student, teacher))
    theirs = teacher.family.layers(teacher.network)
    for own, index in zip(student.family.layers(student.network), layers, strict=True):
        for part, axes in _LAYER.items():
            found += _module(getattr(own, part), getattr(theirs[index], part), axes)
    return found


def _embeddings(student: Model, teacher: Model) -> Iterator[Pair]:
    ours, theirs = (model.family.embeddings(model.network) for model in (student, teacher))
    kind = "hidden" if ours.projection is None else "embedding"
    words: Any = theirs.word
    if isinstance(words, JointEmbedding):
        yield Pair(ours.word.weight, words.other.weight, (None, kind))  # type: ignore[arg-type]
    for own, other in ((ours.position, theirs.position), (ours.token_type, theirs.token_type)):
        if isinstance(own, nn.Embedding) and isinstance(other, nn.Embedding):
            yield Pair(own.weight, other.weight, (None, kind))
    yield from _module(ours.norm, theirs.norm, (kind,))
    if ours.projection is not None and theirs.projection is not None:
        yield from _module(ours.projection, theirs.projection, ("hidden", kind))


def _module(ours: nn.Module, theirs: nn.Module, axes: tuple[str, ...]) -> Iterator[Pair]:
    yield Pair(ours.weight, theirs.weight, axes)  # type: ignore[arg-type]
    if ours.bias is not None:
        yield Pair(ours.bias, theirs.bias, axes[:1])  # type: ignore[arg-type]

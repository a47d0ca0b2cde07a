"""WaLDORf students: networks of `architectures/waldorf.py` with word vectors, and layers, from their teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from compressbert.config.schema import TaskKind
from compressbert.errors import ConfigError
from compressbert.model.architectures.waldorf import Lengthen, Shorten, WaldorfConfig
from compressbert.model.families import family_of
from compressbert.model.handle import Model
from compressbert.model.narrow_words import leading, principal_basis, vectors_of, weight_of
from compressbert.model.parts import copy_layer
from compressbert.model.student import Shape, build_own_student, build_student

_SAME_HEADS = ("bert", "roberta", "albert")  # a dense map, tanh and a classifier of the first token


def build_short(
    teacher: Model, config: WaldorfConfig, *, kind: TaskKind, seed: int, layers: Sequence[int] = ()
) -> Model:
    """A student whose embeddings are the teacher's in the student's dimensions.

    Args:
        teacher: Left as it is.
        config: Of the student; vocabulary, positions and labels are written into it.
        kind: What its head is for.
        seed: Of the random weights.
        layers: The teacher's layers that its own start from, one for each; where it is narrower, their leading
            features. A position is then the mean of its word pieces, and each of them has its state; position biases
            of MPNet's attention are left out. Without any, layers and convolutions start at random.

    Raises:
        ConfigError: There is no head for this kind of task, the student is wider than its teacher, or the teacher's
            layers are not of the kind that a student has.
    """
    words, positions, types = vectors_of(teacher)
    cut = _cut_of(teacher, config, layers) if layers else None
    if cut is None:
        basis = principal_basis(teacher, config.hidden_size)
    else:  # the directions that its layers know, and what they compute
        basis = torch.eye(words.shape[1])[:, : config.hidden_size]
        config.hidden_act = teacher.activation
        config.layer_norm_eps = cut.family.layers(cut.network)[0].ffn_norm.eps
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
    if cut is not None:
        _start_from(student, cut)
    return student


def start_as_mean(shorten: Shorten, stride: int) -> None:
    """Let a convolution give the mean of each window's ``stride`` word pieces: their leading features."""
    _set_window(shorten.conv.weight, shorten.conv.bias, shorten.before, stride, 1 / stride)


def start_as_copy(lengthen: Lengthen, stride: int) -> None:
    """Let a transposed convolution give each of a window's ``stride`` word pieces the window's state."""
    _set_window(lengthen.conv.weight, lengthen.conv.bias, lengthen.before, stride, 1.0)


def _set_window(weight: Tensor, bias: Tensor | None, before: int, stride: int, value: float) -> None:
    window = value * torch.eye(*weight.shape[:2], device=weight.device)  # first features to first features
    with torch.no_grad():
        weight.zero_()[:, :, before : before + stride] = window.unsqueeze(-1)
        if bias is not None:
            bias.zero_()


def _cut_of(teacher: Model, config: WaldorfConfig, layers: Sequence[int]) -> Model:
    """A stock student of these layers and the config's sizes."""
    teacher.family.check_vectors(teacher.network)
    first = teacher.family.layers(teacher.network)[0]
    if first.bottleneck is not None or not teacher.activation:
        raise ConfigError(
            f"The layers of a {teacher.family.name} are not those of a short student, which cannot start from them.",
            hint="Set init: random.",
        )
    given = {
        "hidden": config.hidden_size,
        "heads": config.num_attention_heads,
        "ffn": config.intermediate_size,
    }
    own = {"hidden": first.hidden, "heads": first.heads, "ffn": first.ffn}
    sizes = {kind: size for kind, size in given.items() if size != own[kind]}
    return build_student(teacher, Shape(tuple(layers), **sizes), init="teacher")


def _start_from(student: Model, cut: Model) -> None:
    """Copy the cut's layers, norm and head; convolutions and skip add nothing to them yet."""
    encoder: Any = student.network.base_model
    pairs = zip(
        family_of("bert").layers_of(short_layers(student)), cut.family.layers(cut.network), strict=True
    )
    for own, theirs in pairs:
        copy_layer(own, theirs)
    _copy_if_alike(encoder.embeddings.LayerNorm, cut.family.embeddings(cut.network).norm)
    stride = student.network.config.stride
    start_as_mean(encoder.shorten, stride)
    start_as_copy(encoder.lengthen, stride)
    if encoder.skip is not None:
        weight_of(encoder.skip).zero_()
    _take_head(student.network, cut)


def _take_head(network: nn.Module, cut: Model) -> None:
    """Copy the head where it computes the same; else it stays random."""
    own = [getattr(network, name) for name in ("dense", "classifier") if hasattr(network, name)]
    theirs = list(cut.family.head_modules(cut.network).values())
    if len(own) == len(theirs) and (len(own) == 1 or cut.family.name in _SAME_HEADS):
        for head, given in zip(own, theirs, strict=True):
            _copy_if_alike(head, given)


def _copy_if_alike(own: nn.Module, other: nn.Module) -> None:
    """Copy weights of equal shapes; others stay as they are."""
    if {name: tensor.shape for name, tensor in own.state_dict().items()} == {
        name: tensor.shape for name, tensor in other.state_dict().items()
    }:
        own.load_state_dict(other.state_dict())


def short_layers(student: Model) -> list[nn.Module]:
    """The layers of a student that run on the short sequence."""
    return list(cast(nn.ModuleList, student.network.base_model.layers))

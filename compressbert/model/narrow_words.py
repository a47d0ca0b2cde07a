"""A model's embeddings in fewer dimensions: the directions that keep most of its words' vectors."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from compressbert.errors import ConfigError
from compressbert.model.handle import Model
from compressbert.model.parts import NoPositions


def principal_basis(source: Model, width: int) -> Tensor:
    """The ``width`` directions that keep most of the words' vectors, (H, width); all of them in order where equal.

    Raises:
        ConfigError: More directions than there are.
    """
    words = vectors_of(source)[0]
    own = words.shape[1]
    if width > own:
        raise ConfigError(
            f"hidden: {width} is more than the teacher's {own}", hint="Choose at most the teacher's width."
        )
    return torch.eye(own) if width == own else leading(words, width)


def vectors_of(source: Model) -> tuple[Tensor, Tensor, Tensor | None]:
    """Words, positions and token types of ``source`` as rows in its layers' width; positions are 0 without a table."""
    found = source.family.embeddings(source.network)
    words = weight_of(found.word)
    if isinstance(found.position, NoPositions):
        positions = words.new_zeros(found.position.num_embeddings, words.shape[1])
    else:
        positions = weight_of(found.position)[found.position_offset :]
    types = None if found.token_type is None else weight_of(found.token_type)
    if found.projection is None:
        return words, positions, types
    led = weight_of(found.projection).t()
    if found.trigram:  # what the word itself adds, without its neighbours
        width = words.shape[1]
        return words @ led[width : 2 * width], positions, types
    return words @ led, positions @ led, None if types is None else types @ led


def weight_of(module: nn.Module) -> Tensor:
    """A module's weight without gradient, sharing its memory where it is fp32."""
    return cast(Tensor, module.weight).detach().float()


def leading(rows: Tensor, width: int) -> Tensor:
    """The ``width`` orthonormal directions that keep most of the rows' squares, (H, width)."""
    _, vectors = torch.linalg.eigh(rows.t().double() @ rows.double())
    kept: Tensor = vectors.flip(-1)[:, :width].float()
    return kept

"""The parts of an encoder as live modules, under the same names whatever the architecture calls them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import nn


@dataclass(frozen=True)
class Bottleneck:
    """Live modules between MobileBERT's wide residual stream and the narrow inside of a layer.

    Attributes:
        residual, residual_norm: Stream to the inside, where the layer's own residuals run.
        shared, shared_norm: Stream to what queries and keys read; None where they have no map of their own.
        out, out_norm: Inside to the stream.
        attention_is_inside: Queries, keys and values all read what ``residual`` gives.
    """

    residual: nn.Module
    residual_norm: nn.Module
    shared: nn.Module | None
    shared_norm: nn.Module | None
    out: nn.Module
    out_norm: nn.Module
    attention_is_inside: bool


@dataclass(frozen=True)
class FeedForward:
    """Live modules of a feed-forward network that MobileBERT stacks below a layer's last one."""

    ffn_in: nn.Module
    ffn_out: nn.Module
    norm: nn.Module


@dataclass(frozen=True)
class Layer:
    """Live modules of one transformer layer. A projection is a Linear or an Int8Linear.

    ``bottleneck`` and ``stacked`` are MobileBERT's; its norms may be `NoNorm`, which only scales and shifts.
    """

    attention: nn.Module
    query: nn.Module
    key: nn.Module
    value: nn.Module
    attention_out: nn.Module
    attention_norm: nn.LayerNorm
    ffn_in: nn.Module
    ffn_out: nn.Module
    ffn_norm: nn.LayerNorm
    bottleneck: Bottleneck | None = None
    stacked: tuple[FeedForward, ...] = ()

    @property
    def heads(self) -> int:
        """How many heads survive in this layer."""
        return cast(int, self.query.out_features) // cast(int, self.attention.attention_head_size)

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        last = self.ffn_out if self.bottleneck is None else self.bottleneck.out
        return cast(int, last.out_features)

    @property
    def ffn(self) -> int:
        """How many FFN neurons survive in this layer."""
        return cast(int, self.ffn_in.out_features)


@dataclass(frozen=True)
class Embeddings:
    """Live modules between token ids and the first layer.

    ``projection`` maps the finished sum to the layers' width (ELECTRA), or the words alone: each beside its two
    neighbours (``trigram``, MobileBERT).
    """

    word: nn.Module
    position: nn.Module
    token_type: nn.Module | None
    norm: nn.LayerNorm
    projection: nn.Module | None
    position_offset: int
    trigram: bool = False

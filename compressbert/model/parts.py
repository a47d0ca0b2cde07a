"""The parts of an encoder as live modules, under the same names whatever the architecture calls them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from compressbert.errors import ConfigError


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


@dataclass(frozen=True, repr=False)
class Layer:
    """Live modules of one transformer layer. A projection is a Linear or an Int8Linear.

    Asking for a part that an architecture does not have apart raises ConfigError: methods that compare such parts
    cannot work with it.

    Attributes:
        bottleneck, stacked: MobileBERT's; its norms may be `NoNorm`, which only scales and shifts.
        joined: ModernBERT's queries, keys and values in one product, one after the other; it has no ``query``, ``key``
            and ``value``. Its norms come before what they feed; the first layer's may be an Identity.
        gated: ModernBERT's neurons and their gates in one product, one after the other; it has no ``ffn_in``.
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
    joined: nn.Module | None = None
    gated: nn.Module | None = None

    @classmethod
    def of(cls, parts: Mapping[str, Any]) -> Layer:
        """A layer that has these parts and no others."""
        layer = object.__new__(cls)
        for name, part in parts.items():
            object.__setattr__(layer, name, part)
        return layer

    def __getattr__(self, name: str) -> nn.Module:
        """Refuse a part that is not there."""
        if name not in _APART:
            raise AttributeError(name)
        raise ConfigError(
            f"This model's layers have no {_APART[name]} apart, so they cannot be compared or cut one by one.",
            hint="Use one that compares answers or states, as distilbert and pkd do; docs/families.md lists them.",
        )

    @property
    def head_size(self) -> int:
        """Width of one head, fixed when the model was built."""
        attention: Any = self.attention
        return int(attention.head_dim if self.joined is not None else attention.attention_head_size)

    @property
    def scaling(self) -> float:
        """Factor of the product of queries and keys."""
        return float(getattr(self.attention, "scaling", None) or self.head_size**-0.5)

    @property
    def heads(self) -> int:
        """How many heads survive in this layer."""
        return cast(int, self.attention_out.in_features) // self.head_size

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        last = self.ffn_out if self.bottleneck is None else self.bottleneck.out
        return cast(int, last.out_features)

    @property
    def ffn(self) -> int:
        """How many FFN neurons survive in this layer."""
        return cast(int, self.ffn_out.in_features)


_APART = dict.fromkeys(("query", "key", "value"), "queries, keys and values") | {
    "ffn_in": "neurons and gates"
}


def copy_layer(own: Layer, source: Layer) -> None:
    """Give a layer, or what a bottleneck has inside, the weights of a plain one of its sizes."""
    for kind in _PLAIN:
        getattr(own, kind).load_state_dict(getattr(source, kind).state_dict())


_PLAIN = ("query", "key", "value", "attention_out", "attention_norm", "ffn_in", "ffn_out", "ffn_norm")


class NoPositions(nn.Module):
    """Stands for a table of positions where attention itself tells them; it has as many rows as there are positions."""

    def __init__(self, num_embeddings: int) -> None:
        super().__init__()
        self.num_embeddings = num_embeddings


@dataclass(frozen=True)
class Embeddings:
    """Live modules between token ids and the first layer.

    ``projection`` maps the finished sum to the layers' width (ELECTRA), or the words alone: each beside its two
    neighbours (``trigram``, MobileBERT). ``position`` is `NoPositions` where there is no table.
    """

    word: nn.Module
    position: nn.Module
    token_type: nn.Module | None
    norm: nn.LayerNorm
    projection: nn.Module | None
    position_offset: int
    trigram: bool = False

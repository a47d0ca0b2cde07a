"""The ways in which one and the same encoder can be written; which is fastest depends on the machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Form:
    """How an encoder is written. All forms compute the same; the defaults are the best single choice.

    Attributes:
        rows: packed computes real tokens only, and attention text by text; padded computes every position,
            attention over the whole batch, which may suit machines with many cores.
        attention: Of full batches. products: two matrix products and a softmax; kernel: `MultiHeadAttention`.
        qkv: apart: a product each for queries, keys and values; joined: one product for all three.
        norm: sum: the residual's sum, then `LayerNormalization`; skip: `SkipLayerNormalization`.
        texts: grouped: a large batch group by group, each small enough for the cache; together: all at once, which
            may suit machines with many cores.
    """

    rows: Literal["packed", "padded"] = "packed"
    attention: Literal["products", "kernel"] = "products"
    qkv: Literal["apart", "joined"] = "apart"
    norm: Literal["sum", "skip"] = "sum"
    texts: Literal["grouped", "together"] = "grouped"

    def changes(self) -> dict[str, str]:
        """What differs from the default."""
        default = asdict(Form())
        return {name: value for name, value in asdict(self).items() if value != default[name]}


def candidates() -> tuple[Form, ...]:
    """What tuning times: the default first, then every single change of it."""
    default = Form()
    return (
        default,
        replace(default, rows="padded"),
        replace(default, attention="kernel"),
        replace(default, qkv="joined"),
        replace(default, norm="skip"),
        replace(default, texts="together"),
    )

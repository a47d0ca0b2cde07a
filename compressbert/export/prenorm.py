"""Writes ModernBERT's layers as ONNX nodes: norms before what they feed, rotary positions, gated neurons, windows.

Its joined products are written apart: queries, keys and values are read by different operators, and a last layer that
computes first tokens alone asks for one query a text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from compressbert.export.attention import AttentionWriter
from compressbert.export.products import Emitter
from compressbert.export.rotary import Rotary
from compressbert.export.window import Window
from compressbert.model.parts import Layer
from compressbert.nn.slices import rows_of

FirstRows = Callable[[str, str], str]


@dataclass(frozen=True)
class PreNormWriter:
    """Writes layers over rows of tokens; holds what all of them share.

    Attributes:
        emit: Where to write.
        activation: Of the neurons.
        attention: Writes the attention.
        rotary: For each kind of layer.
        window: How far the tokens of sliding layers see.
        first_rows: Writes the first token's row of every text: of these rows, under this name.
    """

    emit: Emitter
    activation: str
    attention: AttentionWriter
    rotary: Mapping[str, Rotary]
    window: Window
    first_rows: FirstRows

    def __call__(self, layer: Layer, kind: str, x: str, name: str, *, first: bool) -> str:
        """(rows, width) to the same, or to (batch, width) if only the first token is wanted."""
        emit, graph = self.emit, self.emit.graph
        read = x
        if not isinstance(layer.attention_norm, nn.Identity):
            read = emit.norm(x, layer.attention_norm, f"{name}.attention_norm")
        own = self.first_rows(x, f"{name}.first_token") if first else x
        asking = self.first_rows(read, f"{name}.first_read") if first else read
        context = self._attend(layer, kind, asking, read, name, first=first)
        attended = emit.dense(context, layer.attention_out, f"{name}.attention_out")
        middle = graph.node("Sum", [own, attended], f"{name}.attended")
        normed = emit.norm(middle, layer.ffn_norm, f"{name}.ffn_norm")
        neurons, gates = (
            emit.dense(normed, part, f"{name}.{part_name}")
            for part, part_name in zip(
                emit.parts(layer.gated, ("neurons", "gates")), ("neurons", "gates"), strict=True
            )
        )
        active = emit.activation(neurons, self.activation, f"{name}.ffn")
        gated = graph.node("Mul", [active, gates], f"{name}.gated")
        return graph.node(
            "Sum", [middle, emit.dense(gated, layer.ffn_out, f"{name}.ffn_out")], f"{name}.output"
        )

    def _attend(self, layer: Layer, kind: str, asking: str, read: str, name: str, *, first: bool) -> str:
        emit, heads, turn = self.emit, layer.heads, self.rotary[kind]
        query, key, value = emit.parts(layer.joined, ("query", "key", "value"))
        stem = f"{name}.query" if first else f"{name}.query.straight"
        q = emit.dense(asking, query, stem, scale=layer.head_size**-0.5)
        if not first:  # the first token stands at position 0, where nothing is turned
            q = turn(q, heads, f"{name}.query")
        k = turn(emit.dense(read, key, f"{name}.key.straight"), heads, f"{name}.key")
        v = emit.dense(read, value, f"{name}.value")
        window = self.window if kind == "sliding_attention" else None
        return self.attention(q, k, v, heads, f"{name}.attention", first=first, added=window)


class FirstTokenPreNorm(nn.Module):
    """A layer that computes only the first token, as `blocks.FirstTokenLayer` does for other architectures."""

    def __init__(self, layer: Layer, activation: str, kind: str) -> None:
        super().__init__()
        self.parts, self.attention_type = layer, kind
        self.activation = ACT2FN[activation]

    def forward(
        self,
        hidden: Tensor,
        attention_mask: Tensor | None = None,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        **_: Any,
    ) -> Tensor:
        """(B, S, width) to (B, 1, width)."""
        parts = self.parts
        if parts.joined is None or parts.gated is None or position_embeddings is None:
            raise TypeError("the layer has no joined products")
        read, first = parts.attention_norm(hidden), hidden[:, :1]
        query, key, value = rows_of(parts.joined, 3)
        q, k, v = (
            module(rows)
            .view(*rows.shape[:2], -1, parts.head_size)
            .transpose(1, 2)  # (B, heads, tokens, head size)
            for module, rows in ((query, read[:, :1]), (key, read), (value, read))
        )
        cos, sin = (table.unsqueeze(1) for table in position_embeddings)  # (1, 1, S, head size)
        half = parts.head_size // 2
        k = k * cos + torch.cat((-k[..., half:], k[..., :half]), dim=-1) * sin
        mask = None if attention_mask is None else attention_mask[..., :1, :]
        context = nn.functional.scaled_dot_product_attention(q, k, v, mask, scale=parts.head_size**-0.5)
        middle = first + parts.attention_out(context.transpose(1, 2).flatten(2))
        neurons, gates = (module(parts.ffn_norm(middle)) for module in rows_of(parts.gated, 2))
        result: Tensor = middle + parts.ffn_out(self.activation(neurons) * gates)
        return result

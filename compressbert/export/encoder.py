"""Writes the encoder of any family as ONNX nodes.

Tokens are kept as (rows, width): those of real tokens, text by text, where a batch is padded (`packing.py`);
else all (sequence · batch), so that the first tokens are the first ``batch`` rows. Residuals are `Sum` and biases
sit inside products because onnxruntime otherwise fuses both into kernels that are slower.
"""

from __future__ import annotations

from dataclasses import dataclass

from compressbert.export.attention import AttentionWriter
from compressbert.export.embedding import EmbeddingWriter, input_names
from compressbert.export.form import Form
from compressbert.export.graph import GraphBuilder
from compressbert.export.packing import (
    Packing,
    Sizes,
    additive_mask,
    rows_of_positions,
    write_packing,
    write_sizes,
)
from compressbert.export.products import Emitter
from compressbert.model.families import Layer
from compressbert.model.handle import Model

__all__ = [
    "EMBEDDED",
    "Encoded",
    "activation_name",
    "batch_first",
    "first_tokens",
    "input_names",
    "layer_output",
    "write_encoder",
]

EMBEDDED = "embeddings.output"  # (rows, width): what the first layer reads


def layer_name(layer: int) -> str:
    """What the values of a layer start with."""
    return f"layers.{layer}"


def layer_output(layer: int) -> str:
    """The value a layer writes: (rows, width), or (batch, width) if cut to first tokens."""
    return f"{layer_name(layer)}.output"


def activation_name(model: Model) -> str:
    """The FFN's activation, by the name transformers has for it; "" where it is not a plain name."""
    config = model.network.config
    found = getattr(config, "hidden_act", None) or getattr(config, "activation", None)
    return found if isinstance(found, str) else ""


@dataclass(frozen=True)
class Encoded:
    """What the encoder leaves: the value of its last layer, and whether that holds first tokens only."""

    rows: str
    first_token_only: bool
    sizes: Sizes
    packing: Packing | None


def write_encoder(emit: Emitter, model: Model, *, first_token_only: bool, form: Form) -> Encoded:
    """Write embeddings and every layer.

    Args:
        emit: Where to write.
        model: The model; its family says where the modules are.
        first_token_only: Compute only the first token after the last layer's keys and values. Its row is the
            same as before, except that int8 activations of that layer take their range from it alone.
        form: How it is written. Where rows are packed, int8 activations take their range from real tokens.
    """
    graph, family, network = emit.graph, model.family, model.network
    sizes = write_sizes(graph)
    packing = write_packing(graph, sizes) if form.rows == "packed" else None
    x = EmbeddingWriter(emit, model, sizes, packing)(EMBEDDED)
    mask = "" if packing else additive_mask(graph)
    attention = AttentionWriter(
        graph, family.head_size(network), sizes.batch, packing, mask, kernel=form.attention == "kernel"
    )
    write = _LayerWriter(emit, activation_name(model), attention, joined=form.qkv == "joined")
    layers = family.layers(network)
    for index, layer in enumerate(layers):
        x = write(layer, x, layer_name(index), first=first_token_only and index == len(layers) - 1)
    return Encoded(x, first_token_only, sizes, packing)


def first_tokens(graph: GraphBuilder, encoded: Encoded) -> str:
    """The first token's row of every text: (batch, width)."""
    if encoded.first_token_only:
        return encoded.rows
    return _first_rows(graph, encoded.rows, encoded.sizes.batch, encoded.packing, "first_token")


def _first_rows(graph: GraphBuilder, rows: str, batch: str, packing: Packing | None, name: str) -> str:
    def full(own: str) -> str:
        return graph.node("Slice", [rows, graph.integers(0), batch], own)

    if packing is None:
        return full(name)
    return packing.choose(
        graph,
        name,
        full=lambda: full(f"{name}.full"),
        padded=lambda: graph.node("Gather", [rows, packing.starts], f"{name}.padded"),
    )


def batch_first(graph: GraphBuilder, encoded: Encoded, width: int) -> str:
    """Every token's row as (batch, sequence, width); padded positions hold numbers that mean nothing."""

    def full() -> str:
        parts = [encoded.sizes.sequence, encoded.sizes.batch, graph.integers(width)]
        shape = graph.node("Concat", parts, "rows_shape", axis=0)
        rows = graph.node("Reshape", [encoded.rows, shape], "rows_by_position")
        return graph.node("Transpose", [rows], "rows_in_order", perm=[1, 0, 2])

    packing = encoded.packing
    if packing is None:
        return full()
    return packing.choose(
        graph,
        "rows_by_text",
        full=full,
        padded=lambda: graph.node("Gather", [encoded.rows, rows_of_positions(graph)], "rows_of_positions"),
    )


@dataclass(frozen=True)
class _LayerWriter:
    """Writes layers over rows of tokens; holds what all of them share."""

    emit: Emitter
    activation: str
    attention: AttentionWriter
    joined: bool

    def __call__(self, layer: Layer, x: str, name: str, *, first: bool) -> str:
        """(rows, width) to the same, or to (batch, width) if only the first token is wanted."""
        emit, graph = self.emit, self.emit.graph
        own = x
        if first:
            own = _first_rows(graph, x, self.attention.batch, self.attention.packing, f"{name}.first_token")
        scaling = float(layer.attention.scaling)  # type: ignore[arg-type]
        modules, names = (
            (layer.query, layer.key, layer.value),
            [f"{name}.{part}" for part in ("query", "key", "value")],
        )
        if self.joined and not first and emit.can_join(modules):
            query, key, value = emit.joined_dense(x, modules, names, scales=(scaling, 1, 1))
        else:
            query = emit.dense(own, layer.query, names[0], scale=scaling)
            key, value = (emit.dense(x, *pair) for pair in zip(modules[1:], names[1:], strict=True))
        context = self.attention(query, key, value, layer.heads, f"{name}.attention", first=first)
        attended = emit.dense(context, layer.attention_out, f"{name}.attention_out")
        attended = emit.residual_norm(attended, own, layer.attention_norm, f"{name}.attended")
        inner = emit.dense(attended, layer.ffn_in, f"{name}.ffn_in")
        inner = emit.activation(inner, self.activation, f"{name}.ffn")
        outer = emit.dense(inner, layer.ffn_out, f"{name}.ffn_out")
        return emit.residual_norm(outer, attended, layer.ffn_norm, f"{name}.output")

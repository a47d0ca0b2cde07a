"""Writes the encoder of any family as ONNX nodes.

Tokens are kept as (rows, width): those of real tokens, text by text, where a batch is padded (`packing.py`);
else all (sequence · batch), so that the first tokens are the first ``batch`` rows. Residuals are `Sum` and biases
sit inside products because onnxruntime otherwise fuses both into kernels that are slower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import nn

from compressbert.export.attention import Added, AttentionWriter
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
from compressbert.export.positions import write_positions
from compressbert.export.prenorm import PreNormWriter
from compressbert.export.products import Emitter
from compressbert.export.relative import RelativeBias
from compressbert.export.rotary import Rotary
from compressbert.export.window import Window
from compressbert.model.biased_layers import BiasedFamily
from compressbert.model.handle import Model
from compressbert.model.local_layers import LocalFamily
from compressbert.model.parts import Bottleneck, Layer

__all__ = [
    "EMBEDDED",
    "Encoded",
    "LayerWriter",
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
    # Where tokens see a window, one that sees padding alone has no defined answer: such rows are not written at all.
    packed = form.rows == "packed" or isinstance(family, LocalFamily)
    packing = write_packing(graph, sizes) if packed else None
    x = EmbeddingWriter(emit, model, sizes, packing)(EMBEDDED)
    mask = "" if packing else additive_mask(graph)
    attention = AttentionWriter(
        graph, family.head_size(network), sizes.batch, packing, mask, kernel=form.attention == "kernel"
    )
    layers, last = family.layers(network), len(family.layers(network)) - 1
    if isinstance(family, LocalFamily):
        local, kinds = _prenorm_writer(emit, model, attention, sizes), family.kinds(network)
        for index, layer in enumerate(layers):
            x = local(layer, kinds[index], x, layer_name(index), first=first_token_only and index == last)
    else:
        added = _bias(graph, model, sizes, packing)
        write = LayerWriter(emit, model.activation, attention, form.qkv == "joined", added)
        for index, layer in enumerate(layers):
            x = write(layer, x, layer_name(index), first=first_token_only and index == last)
    if (norm := family.final_norm(network)) is not None:
        x = emit.norm(x, norm, "final_norm")
    return Encoded(x, first_token_only, sizes, packing)


def _bias(graph: GraphBuilder, model: Model, sizes: Sizes, packing: Packing | None) -> RelativeBias | None:
    family, network = model.family, model.network
    if not isinstance(family, BiasedFamily):
        return None
    count = cast(int, family.embeddings(network).position.num_embeddings)
    positions = write_positions(graph, sizes, packing)
    return RelativeBias.of(graph, sizes, packing, positions, family.biases(network, count))


def _prenorm_writer(emit: Emitter, model: Model, attention: AttentionWriter, sizes: Sizes) -> PreNormWriter:
    graph, family, network = emit.graph, model.family, model.network
    if not isinstance(family, LocalFamily):
        raise TypeError(f"layers of {family.name} have their norms elsewhere")
    positions = write_positions(graph, sizes, attention.packing)
    count = cast(int, family.embeddings(network).position.num_embeddings)
    rotary = {
        kind: Rotary.of(graph, positions, family.speeds(network, kind), count, f"rotary.{kind}")
        for kind in dict.fromkeys(family.kinds(network))
    }
    return PreNormWriter(
        emit,
        model.activation,
        attention,
        rotary,
        Window.of(graph, sizes, positions, family.reach(network)),
        lambda rows, name: _first_rows(graph, rows, attention.batch, attention.packing, name),
    )


def first_tokens(graph: GraphBuilder, encoded: Encoded) -> str:
    """The first token's row of every text: (batch, width)."""
    if encoded.first_token_only:
        return encoded.rows
    return _first_rows(graph, encoded.rows, encoded.sizes.batch, encoded.packing, "first_token")


def _first_rows(graph: GraphBuilder, rows: str, batch: str, packing: Packing | None, name: str) -> str:
    if packing is None:
        return graph.node("Slice", [rows, graph.integers(0), batch], name)
    return graph.node("Gather", [rows, packing.starts], name)


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
class LayerWriter:
    """Writes layers over rows of tokens; holds what all of them share: activation, attention, joined products, and what
    is added to scores."""

    emit: Emitter
    activation: str
    attention: AttentionWriter
    joined: bool
    added: Added | None = None

    def __call__(self, layer: Layer, x: str, name: str, *, first: bool) -> str:
        """(rows, width) to the same, or to (batch, width) if only the first token is wanted."""
        emit, graph = self.emit, self.emit.graph
        own = x
        if first:
            own = _first_rows(graph, x, self.attention.batch, self.attention.packing, f"{name}.first_token")
        narrow = layer.bottleneck
        if narrow is None:
            attended = self._attend(layer, name, x=x, own=own, values=x, residual=own, first=first)
        else:
            attended = self._attend_inside(layer, narrow, name, x=x, own=own, first=first)
        for index, network in enumerate(layer.stacked):
            part = f"{name}.stacked.{index}"
            outer = self._feed_forward(network.ffn_in, network.ffn_out, attended, part)
            attended = emit.residual_norm(outer, attended, network.norm, f"{part}.output")
        outer = self._feed_forward(layer.ffn_in, layer.ffn_out, attended, name)
        if narrow is None:
            return emit.residual_norm(outer, attended, layer.ffn_norm, f"{name}.output")
        inside = emit.residual_norm(outer, attended, layer.ffn_norm, f"{name}.inside")
        wide = emit.dense(inside, narrow.out, f"{name}.out")
        return emit.residual_norm(wide, own, narrow.out_norm, f"{name}.output")

    def _feed_forward(self, ffn_in: nn.Module, ffn_out: nn.Module, x: str, name: str) -> str:
        inner = self.emit.dense(x, ffn_in, f"{name}.ffn_in")
        inner = self.emit.activation(inner, self.activation, f"{name}.ffn")
        return self.emit.dense(inner, ffn_out, f"{name}.ffn_out")

    def _attend_inside(
        self, layer: Layer, narrow: Bottleneck, name: str, *, x: str, own: str, first: bool
    ) -> str:
        """Attention of a layer with bottlenecks: what queries, keys and values read, and the inside's residual."""
        emit = self.emit

        def led(rows: str, linear: nn.Module, norm: nn.Module, part: str) -> str:
            return emit.norm(emit.dense(rows, linear, f"{name}.{part}.dense"), norm, f"{name}.{part}")

        def first_of(rows: str, part: str) -> str:
            if not first:
                return rows
            attention = self.attention
            return _first_rows(emit.graph, rows, attention.batch, attention.packing, f"{name}.{part}")

        if narrow.attention_is_inside:
            inside = led(x, narrow.residual, narrow.residual_norm, "bottleneck")
            residual = first_of(inside, "bottleneck.first_token")
            return self._attend(
                layer, name, x=inside, own=residual, values=inside, residual=residual, first=first
            )
        residual = led(own, narrow.residual, narrow.residual_norm, "bottleneck")
        asked, asking = x, own
        if narrow.shared is not None and narrow.shared_norm is not None:
            asked = led(x, narrow.shared, narrow.shared_norm, "shared")
            asking = first_of(asked, "shared.first_token")
        return self._attend(layer, name, x=asked, own=asking, values=x, residual=residual, first=first)

    def _attend(
        self, layer: Layer, name: str, *, x: str, own: str, values: str, residual: str, first: bool
    ) -> str:
        """Attention with its output projection and norm.

        Args:
            layer: Whose modules are used.
            name: Of the layer.
            x: What keys read.
            own: What queries read: ``x``, or its first tokens.
            values: What values read.
            residual: What is added before the norm.
            first: Only the first token of every text asks.
        """
        emit = self.emit
        scaling = layer.scaling
        modules, names = (
            (layer.query, layer.key, layer.value),
            [f"{name}.{part}" for part in ("query", "key", "value")],
        )
        if self.joined and not first and values == x and emit.can_join(modules):
            query, key, value = emit.joined_dense(x, modules, names, scales=(scaling, 1, 1))
        else:
            query = emit.dense(own, layer.query, names[0], scale=scaling)
            key = emit.dense(x, layer.key, names[1])
            value = emit.dense(values, layer.value, names[2])
        context = self.attention(
            query, key, value, layer.heads, f"{name}.attention", first=first, added=self.added
        )
        attended = emit.dense(context, layer.attention_out, f"{name}.attention_out")
        return emit.residual_norm(attended, residual, layer.attention_norm, f"{name}.attended")

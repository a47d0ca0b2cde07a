"""Writes the encoder of any family as ONNX nodes, sequence first.

Token rows are kept as (sequence · batch, width) with the position as the slow axis. Heads are then views of
the products: `FusedMatMul` reads (sequence, batch, heads, head size) with strides, so queries, keys and
values are never transposed, and the first token of every text is the first ``batch`` rows. Residuals are
`Sum` and biases sit inside products because onnxruntime otherwise fuses both into kernels that are slower.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto
from torch import nn

from compressbert.export.graph import MICROSOFT, GraphBuilder
from compressbert.export.products import Emitter, Table
from compressbert.model.families import Embeddings, Layer
from compressbert.model.handle import Model

EMBEDDED = "embeddings.output"  # (sequence · batch, width): what the first layer reads


def layer_name(layer: int) -> str:
    """What the values of a layer start with."""
    return f"layers.{layer}"


def layer_output(layer: int) -> str:
    """The value a layer writes: (sequence · batch, width), or (batch, width) if cut to first tokens."""
    return f"{layer_name(layer)}.output"


def activation_name(model: Model) -> str:
    """The FFN's activation, by the name transformers has for it; "" where it is not a plain name."""
    config = model.network.config
    found = getattr(config, "hidden_act", None) or getattr(config, "activation", None)
    return found if isinstance(found, str) else ""


def input_names(model: Model) -> tuple[str, ...]:
    """What the graph takes; token types only if there are several and the tokenizer tells them."""
    table = model.family.embeddings(model.network).token_type
    told_apart = table is not None and int(table.num_embeddings) > 1  # type: ignore[arg-type]
    if told_apart and "token_type_ids" in model.tokenizer.model_input_names:
        return ("input_ids", "attention_mask", "token_type_ids")
    return ("input_ids", "attention_mask")


@dataclass(frozen=True)
class Sizes:
    """Values of the graph that hold its dynamic sizes, each an int64 vector of one element."""

    batch: str
    sequence: str


@dataclass(frozen=True)
class Encoded:
    """What the encoder leaves: the value of its last layer, and whether that holds first tokens only."""

    rows: str
    first_token_only: bool
    sizes: Sizes


def write_encoder(emit: Emitter, model: Model, *, first_token_only: bool) -> Encoded:
    """Write embeddings and every layer.

    Args:
        emit: Where to write.
        model: The model; its family says where the modules are.
        first_token_only: Compute only the first token after the last layer's keys and values. Its row is the
            same as before, except that int8 activations of that layer take their range from it alone.
    """
    graph, family, network = emit.graph, model.family, model.network
    shape = graph.node("Shape", ["input_ids"], "input_shape")
    sizes = Sizes(
        batch=graph.node("Slice", [shape, graph.integers(0), graph.integers(1)], "batch_size"),
        sequence=graph.node("Slice", [shape, graph.integers(1), graph.integers(2)], "sequence_length"),
    )
    x = _embed(emit, model, family.embeddings(network), sizes)
    write = _LayerWriter(
        emit, family.head_size(network), activation_name(model), sizes.batch, _additive_mask(graph)
    )
    layers = family.layers(network)
    for index, layer in enumerate(layers):
        x = write(layer, x, layer_name(index), first=first_token_only and index == len(layers) - 1)
    return Encoded(x, first_token_only, sizes)


def first_tokens(graph: GraphBuilder, encoded: Encoded) -> str:
    """The first token's row of every text: (batch, width)."""
    if encoded.first_token_only:
        return encoded.rows
    return graph.node("Slice", [encoded.rows, graph.integers(0), encoded.sizes.batch], "first_token")


def batch_first(graph: GraphBuilder, encoded: Encoded, width: int) -> str:
    """Every token's row as (batch, sequence, width)."""
    folded = graph.node(
        "Concat", [encoded.sizes.sequence, encoded.sizes.batch, graph.integers(width)], "rows_shape", axis=0
    )
    rows = graph.node("Reshape", [encoded.rows, folded], "rows_by_position")
    return graph.node("Transpose", [rows], "rows_by_text", perm=[1, 0, 2])


def _embed(emit: Emitter, model: Model, embeddings: Embeddings, sizes: Sizes) -> str:
    graph = emit.graph
    ids = graph.node("Transpose", ["input_ids"], "embeddings.ids", perm=[1, 0])  # (sequence, batch)
    terms = [emit.rows(emit.table(embeddings.word), ids, "embeddings.word")]  # (sequence, batch, width)
    types, fixed = embeddings.token_type, False
    if types is not None and "token_type_ids" in input_names(model):
        type_ids = graph.node("Transpose", ["token_type_ids"], "embeddings.type_ids", perm=[1, 0])
        terms.append(emit.rows(emit.table(types), type_ids, "embeddings.token_type"))
    elif types is not None:  # every token is of type 0
        fixed = isinstance(embeddings.position, nn.Embedding) and isinstance(types, nn.Embedding)
        if not fixed:
            zero = graph.constant(np.array(0, np.int64), "index.0")
            terms.append(emit.rows(emit.table(types), zero, "embeddings.token_type"))  # (width,)
    positions = emit.table(embeddings.position, added=types if fixed else None)
    terms.append(_positions(emit, positions, ids, sizes, embeddings.position_offset))
    normed = emit.norm(graph.node("Sum", terms, "embeddings.sum"), embeddings.norm, "embeddings.norm")
    flat = graph.integers(-1, int(embeddings.norm.normalized_shape[0]))
    if embeddings.projection is None:
        return graph.node("Reshape", [normed, flat], EMBEDDED)
    return emit.dense(
        graph.node("Reshape", [normed, flat], "embeddings.rows"), embeddings.projection, EMBEDDED
    )


def _positions(emit: Emitter, table: Table, ids: str, sizes: Sizes, offset: int) -> str:
    """Position rows, (sequence, 1, width); counted over the real tokens where the family starts after its
    padding."""
    graph = emit.graph
    if offset == 0:
        rows = emit.first_rows(table, sizes.sequence, "embeddings.position_rows")
        return graph.node("Unsqueeze", [rows, graph.integers(1)], "embeddings.position")
    padding = graph.constant(np.array(offset - 1, np.int64), f"index.{offset - 1}")
    is_pad = graph.node("Equal", [ids, padding], "embeddings.is_pad")
    real = graph.node(
        "Cast", [graph.node("Not", [is_pad], "embeddings.is_real")], "embeddings.real", to=TensorProto.INT64
    )
    zero = graph.constant(np.array(0, np.int64), "index.0")
    counted = graph.node("CumSum", [real, zero], "embeddings.counted")
    counted = graph.node("Mul", [counted, real], "embeddings.counted_real")
    positions = graph.node("Add", [counted, padding], "embeddings.position_ids")
    return emit.rows(table, positions, "embeddings.position")


def _additive_mask(graph: GraphBuilder) -> str:
    """0 where a key may be read, the lowest fp32 number where not: (batch, 1, 1, sequence)."""
    zero = graph.constant(np.array(0, np.int64), "index.0")
    hidden = graph.node("Equal", ["attention_mask", zero], "mask.hidden")
    lowest = graph.constant(np.finfo(np.float32).min, "mask.lowest")
    values = graph.node("Where", [hidden, lowest, graph.constant(np.float32(0), "mask.zero")], "mask.values")
    return graph.node("Unsqueeze", [values, graph.integers(1, 2)], "mask")


@dataclass(frozen=True)
class _LayerWriter:
    """Writes layers over sequence-first rows; holds what all of them share."""

    emit: Emitter
    head_size: int
    activation: str
    batch: str
    mask: str

    def __call__(self, layer: Layer, x: str, name: str, *, first: bool) -> str:
        """(tokens · batch, width) to the same, or to (batch, width) if only the first token is wanted."""
        emit, graph = self.emit, self.emit.graph
        own = graph.node("Slice", [x, graph.integers(0), self.batch], f"{name}.first_token") if first else x
        scaling = float(layer.attention.scaling)  # type: ignore[arg-type]
        query = emit.dense(own, layer.query, f"{name}.query", scale=scaling)
        key = emit.dense(x, layer.key, f"{name}.key")
        value = emit.dense(x, layer.value, f"{name}.value")
        context = self.attention(query, key, value, layer.heads, f"{name}.attention")
        attended = emit.dense(context, layer.attention_out, f"{name}.attention_out")
        attended = emit.residual_norm(attended, own, layer.attention_norm, f"{name}.attended")
        inner = emit.dense(attended, layer.ffn_in, f"{name}.ffn_in")
        inner = emit.activation(inner, self.activation, f"{name}.ffn")
        outer = emit.dense(inner, layer.ffn_out, f"{name}.ffn_out")
        return emit.residual_norm(outer, attended, layer.ffn_norm, f"{name}.output")

    def attention(self, query: str, key: str, value: str, heads: int, name: str) -> str:
        """Context rows, (queries · batch, heads · head size). The scaling is already in the queries."""
        graph = self.emit.graph
        q, k, v = (self._heads(rows, heads) for rows in (query, key, value))
        by_token = {"transBatchA": 1, "transBatchB": 1, "transB": 1}
        scores = graph.node("FusedMatMul", [q, k], f"{name}.scores", domain=MICROSOFT, **by_token)
        masked = graph.node("Add", [scores, self.mask], f"{name}.masked")  # (batch, heads, queries, keys)
        weights = graph.node("Softmax", [masked], f"{name}.weights", axis=-1)
        context = graph.node("FusedMatMul", [weights, v], f"{name}.context", domain=MICROSOFT, transBatchB=1)
        tokens = graph.node("Transpose", [context], f"{name}.context_tokens", perm=[2, 0, 1, 3])
        shape = graph.integers(-1, heads * self.head_size)
        return graph.node("Reshape", [tokens, shape], f"{name}.context_rows")

    def _heads(self, rows: str, heads: int) -> str:
        """(tokens · batch, heads · head size) seen as (tokens, batch, heads, head size)."""
        graph, shape = self.emit.graph, f"heads_shape.{heads}"
        if not graph.has(shape):
            parts = [graph.integers(-1), self.batch, graph.integers(heads, self.head_size)]
            graph.node("Concat", parts, shape, axis=0)
        return graph.node("Reshape", [rows, shape], f"{rows}.heads")

"""Writes the networks of `model/architectures/text_vectors.py` as ONNX nodes.

An LSTM reads each text to its own end: onnxruntime takes the lengths, so padding is never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from torch import Tensor, nn

from compressbert.export.graph import GraphBuilder, to_array
from compressbert.export.heads import Output
from compressbert.export.pooling import write_mean, write_pooling
from compressbert.export.products import Emitter
from compressbert.model.architectures.text_vectors import BiLSTMModel, StaticEmbeddingModel, TextVectorConfig
from compressbert.model.handle import Model

INPUTS = ("input_ids", "attention_mask")
_GATES = (0, 3, 1, 2)  # PyTorch keeps input, forget, cell, output; ONNX wants input, output, forget, cell


def write_text_vectors(emit: Emitter, model: Model) -> tuple[Output, ...]:
    """Write the whole network.

    Returns:
        What the graph gives: ``logits`` (batch, labels); of a sentence encoder ``sentence_embedding`` (batch, width)
        and ``last_hidden_state``; of a bare encoder ``pooler_output`` (batch, width).
    """
    graph, network = emit.graph, model.network
    encoder = cast(StaticEmbeddingModel | BiLSTMModel, network.base_model)
    width = model.width
    if network.base_model is network:
        if model.pooling is None:
            _write_vector(emit, encoder, "attention_mask", "pooler_output")
            return (Output("pooler_output", ("batch", width)),)
        rows = _table_rows(emit, encoder, "input_ids", "last_hidden_state")
        states = Output(rows, ("batch", "sequence", int(encoder.config.embedding_size)))
        name = write_pooling(graph, model.pooling, rows, "sentence_embedding")
        return Output(name, ("batch", width)), states
    masks = _text_masks(graph, network.config)
    names = ["text"] if len(masks) == 1 else ["first_text", "second_text"]
    vectors = [_write_vector(emit, encoder, *pair) for pair in zip(masks, names, strict=True)]
    head = cast(nn.Module, network.classifier)
    features = _pair_features(graph, vectors) if len(vectors) == 2 else vectors[0]
    if head.dense is not None:
        features = emit.activation(
            emit.dense(features, cast(nn.Module, head.dense), "head.dense"), "relu", "head.activation"
        )
    emit.dense(features, cast(nn.Module, head.out_proj), "logits")
    return (Output("logits", ("batch", int(network.config.num_labels))),)


def _text_masks(graph: GraphBuilder, config: TextVectorConfig) -> tuple[str, ...]:
    """The positions of each text, int64: (batch, sequence)."""
    if not config.pairs:
        return ("attention_mask",)
    separator = graph.constant(np.array(config.sep_token_id, np.int64), "separator")
    same = graph.node("Equal", ["input_ids", separator], "separators.same")
    ones = graph.node("Cast", [same], "separators.ones", to=TensorProto.INT64)
    here = graph.node("Mul", [ones, "attention_mask"], "separators")
    along = graph.constant(np.array(1, np.int64), "index.1")
    before = graph.node("CumSum", [here, along], "separators.before", exclusive=1)
    none = graph.node("Equal", [before, graph.constant(np.array(0, np.int64), "index.0")], "first_text.open")
    before_any = graph.node("Cast", [none], "first_text.before_any", to=TensorProto.INT64)
    first = graph.node("Mul", [before_any, "attention_mask"], "first_text.mask")
    return first, graph.node("Sub", ["attention_mask", first], "second_text.mask")


def _pair_features(graph: GraphBuilder, vectors: Sequence[str]) -> str:
    difference = graph.node("Sub", vectors, "pair.difference")
    parts = [
        *vectors,
        graph.node("Abs", [difference], "pair.distance"),
        graph.node("Mul", vectors, "pair.product"),
    ]
    return graph.node("Concat", parts, "pair.features", axis=1)


def _table_rows(emit: Emitter, encoder: StaticEmbeddingModel | BiLSTMModel, ids: str, name: str) -> str:
    """Rows of the table, or of two tables side by side: ids (…) to (…, width)."""
    embeddings = encoder.embeddings
    if embeddings.frozen_embeddings is None:
        return emit.rows(emit.table(embeddings.word_embeddings), ids, name)
    path = emit.name_of(embeddings.word_embeddings)
    tables = (embeddings.word_embeddings, embeddings.frozen_embeddings)
    joined = np.concatenate([to_array(table.weight) for table in tables], axis=1)
    return emit.graph.node("Gather", [emit.graph.constant(joined, f"{path}.weight"), ids], name)


def _write_vector(emit: Emitter, encoder: StaticEmbeddingModel | BiLSTMModel, mask: str, name: str) -> str:
    """The vector of the text at the mask's positions, (batch, width)."""
    graph = emit.graph
    if isinstance(encoder, StaticEmbeddingModel):
        rows = "embeddings.rows"
        if not graph.has(rows):
            _table_rows(emit, encoder, "input_ids", rows)
        return write_mean(graph, rows, mask, name, least=1.0, stem=f"{name}.mean")
    ids, lengths = _moved_to_front(graph, mask, f"{name}.ids")
    rows = _table_rows(emit, encoder, ids, f"{name}.rows")  # (sequence, batch, width)
    given = [rows, *_lstm_weights(graph, encoder.lstm, emit.name_of(encoder.lstm)), lengths]
    units = encoder.lstm.hidden_size
    last = graph.nodes(
        "LSTM", given, [f"{name}.states", f"{name}.last"], hidden_size=units, direction="bidirectional"
    )[1]  # (2, batch, units)
    side_by_side = graph.node("Transpose", [last], f"{name}.directions", perm=[1, 0, 2])
    return graph.node("Reshape", [side_by_side, graph.integers(-1, 2 * units)], name)


def _moved_to_front(graph: GraphBuilder, mask: str, name: str) -> tuple[str, str]:
    """Ids from each text's first position on, (sequence, batch), and the texts' lengths, int32, at least 1."""
    one = graph.constant(np.array(1, np.int64), "index.1")
    zero = graph.constant(np.array(0, np.int64), "index.0")
    shape = graph.node("Shape", ["input_ids"], f"{name}.shape")
    sequence = graph.node("Gather", [shape, one], f"{name}.sequence")
    start = graph.node("ArgMax", [mask], f"{name}.start", axis=1, keepdims=1)  # (batch, 1)
    steps = graph.node("Range", [zero, sequence, one], f"{name}.steps")
    places = graph.node("Add", [start, steps], f"{name}.places")
    inside = graph.node("Min", [places, graph.node("Sub", [sequence, one], f"{name}.end")], f"{name}.inside")
    moved = graph.node("GatherElements", ["input_ids", inside], f"{name}.moved", axis=1)
    counted = graph.node("ReduceSum", [mask, graph.integers(1)], f"{name}.counted", keepdims=0)
    some = graph.node("Max", [counted, one], f"{name}.some")
    lengths = graph.node("Cast", [some], f"{name}.lengths", to=TensorProto.INT32)
    return graph.node("Transpose", [moved], name, perm=[1, 0]), lengths


def _lstm_weights(graph: GraphBuilder, lstm: nn.LSTM, path: str) -> list[str]:
    """Weights of the input, of the states, and both biases, for both directions: gates in ONNX's order."""
    found = []
    for kind in ("weight_ih", "weight_hh"):
        both = [_reordered(getattr(lstm, f"{kind}_l0{side}")) for side in ("", "_reverse")]
        found.append(graph.constant(np.stack(both), f"{path}.{kind}"))
    biases = [
        np.concatenate([_reordered(getattr(lstm, f"{kind}_l0{side}")) for kind in ("bias_ih", "bias_hh")])
        for side in ("", "_reverse")
    ]
    return [*found, graph.constant(np.stack(biases), f"{path}.bias")]


def _reordered(tensor: Tensor) -> NDArray[np.float32]:
    """Rows of the four gates in ONNX's order."""
    gates = np.split(to_array(tensor), 4)
    return np.concatenate([gates[gate] for gate in _GATES])

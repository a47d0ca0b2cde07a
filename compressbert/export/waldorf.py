"""Writes the networks of `model/architectures/waldorf.py` as ONNX nodes.

Layers run on the short sequence as they do elsewhere on the whole one: rows of all positions, sequence first, with a
mask that is added to scores. Convolutions want (batch, width, sequence).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from onnx import TensorProto
from torch import nn

from compressbert.export.attention import AttentionWriter
from compressbert.export.encoder import LayerWriter
from compressbert.export.graph import to_array
from compressbert.export.heads import Output
from compressbert.export.packing import write_sizes
from compressbert.export.products import ACTIVATIONS, Emitter
from compressbert.model.architectures.waldorf import WaldorfConfig
from compressbert.model.families import family_of
from compressbert.model.handle import Model


def waldorf_inputs(model: Model) -> tuple[str, ...]:
    """What the graph takes; token types only if there are several and the tokenizer tells them."""
    several = model.network.config.type_vocab_size > 1
    types = several and "token_type_ids" in model.tokenizer.model_input_names
    return ("input_ids", "attention_mask", *(("token_type_ids",) if types else ()))


def waldorf_refusal(model: Model) -> str:
    """Why a network of this kind cannot be written directly; "" if it can."""
    kind = model.network.config.hidden_act
    return "" if kind in ACTIVATIONS else f"the activation {kind} is not written directly"


def write_waldorf(emit: Emitter, model: Model) -> tuple[Output, ...]:
    """Write the whole network.

    Returns:
        What the graph gives, the main output first, as `heads.write_head` does for the known families.
    """
    writer = _Writer(emit, model)
    graph, network = emit.graph, model.network
    if type(network).__name__ == "WaldorfForSequenceClassification":
        first = graph.node("Slice", [writer.rows, graph.integers(0), writer.batch], "first_position")
        pooled = emit.activation(
            emit.dense(first, _part(network, "dense"), "head.dense"), "tanh", "head.activation"
        )
        emit.dense(pooled, _part(network, "classifier"), "logits")
        return (Output("logits", ("batch", int(network.config.num_labels))),)
    states = writer.lengthened()
    if network.base_model is network:
        graph.node("Identity", [states], "last_hidden_state")
        return (Output("last_hidden_state", ("batch", "sequence", model.width)),)
    return _write_per_token(emit, network, states)


def _part(network: nn.Module, name: str) -> nn.Module:
    return network.get_submodule(name)


def _write_per_token(emit: Emitter, network: Any, states: str) -> tuple[Output, ...]:
    graph, last = emit.graph, cast(nn.Linear, network.classifier)
    weight = graph.constant(to_array(last.weight).T, "head.weight")
    scores = graph.node("MatMul", [states, weight], "head.scores")
    bias = graph.weight(last.bias, "head.bias")
    if type(network).__name__ == "WaldorfForTokenClassification":
        graph.node("Add", [scores, bias], "logits")
        return (Output("logits", ("batch", "sequence", last.out_features)),)
    logits = graph.node("Add", [scores, bias], "head.logits")
    for index, name in enumerate(("start_logits", "end_logits")):
        place = graph.constant(np.array(index, np.int64), f"index.{index}")
        graph.node("Gather", [logits, place], name, axis=2)
    return tuple(Output(name, ("batch", "sequence")) for name in ("start_logits", "end_logits"))


@dataclass
class _Writer:
    """Writes the encoder; ``rows`` are those the last layer leaves, (short sequence · batch, width)."""

    emit: Emitter
    model: Model

    def __post_init__(self) -> None:
        self.encoder: Any = self.model.network.base_model
        self.config = cast(WaldorfConfig, self.model.network.config)
        sizes = write_sizes(self.emit.graph)
        self.batch, self.sequence = sizes.batch, sizes.sequence
        self.embedded = self._embeddings()  # (batch, sequence, width)
        self.mask = self._short_mask()  # (batch, short sequence) fp32
        self.rows = self._layers(self._shortened())

    def _embeddings(self) -> str:
        emit, graph, parts = self.emit, self.emit.graph, self.encoder.embeddings
        words = emit.rows(emit.table(parts.word_embeddings), "input_ids", "embeddings.word")
        weight = graph.constant(to_array(parts.word_projection.weight).T, "embeddings.word_projection.weight")
        terms = [graph.node("MatMul", [words, weight], "embeddings.words")]
        given = "token_type_ids" in waldorf_inputs(self.model)
        types = "token_type_ids" if given else graph.constant(np.array(0, np.int64), "index.0")
        terms.append(emit.rows(emit.table(parts.token_type_embeddings), types, "embeddings.token_type"))
        table = emit.table(parts.position_embeddings)
        terms.append(emit.first_rows(table, self.sequence, "embeddings.position"))
        return emit.norm(graph.node("Sum", terms, "embeddings.sum"), parts.LayerNorm, "embeddings.norm")

    def _short_mask(self) -> str:
        """Whether a position stands for any real word piece: the largest of each window."""
        graph, stride = self.emit.graph, self.config.stride
        real = graph.node("Cast", ["attention_mask"], "mask.real", to=TensorProto.FLOAT)
        rows = graph.node("Unsqueeze", [real, graph.integers(1)], "mask.rows")  # (batch, 1, sequence)
        zeros = graph.constant(np.float32(0), "mask.nothing")
        padded = graph.node("Pad", [rows, graph.integers(0, 0, 0, 0, 0, stride - 1), zeros], "mask.padded")
        largest = graph.node("MaxPool", [padded], "mask.largest", kernel_shape=[stride], strides=[stride])
        return graph.node("Squeeze", [largest, graph.integers(1)], "mask.short")

    def _shortened(self) -> str:
        """The convolution over real word pieces: (short sequence · batch, width)."""
        graph, shorten = self.emit.graph, self.encoder.shorten
        real = graph.node("Cast", ["attention_mask"], "shorten.real", to=TensorProto.FLOAT)
        column = graph.node("Unsqueeze", [real, graph.integers(2)], "shorten.mask")
        masked = graph.node("Mul", [self.embedded, column], "shorten.masked")
        turned = graph.node("Transpose", [masked], "shorten.turned", perm=[0, 2, 1])
        weights = self._weights(shorten.conv)
        pads = [shorten.before, shorten.after]
        sizes: dict[str, Any] = {"kernel_shape": [self.config.kernel], "strides": [self.config.stride]}
        short = graph.node("Conv", [turned, *weights], "shorten.conv", pads=pads, **sizes)
        grid = graph.node(
            "Transpose", [short], "shorten.grid", perm=[2, 0, 1]
        )  # (short sequence, batch, width)
        return graph.node("Reshape", [grid, graph.integers(-1, self.config.hidden_size)], "shorten.rows")

    def _layers(self, x: str) -> str:
        graph, config = self.emit.graph, self.config
        zero = graph.constant(np.float32(0), "mask.nothing")
        hidden = graph.node("Equal", [self.mask, zero], "mask.hidden")
        lowest = graph.constant(np.finfo(np.float32).min, "mask.lowest")
        values = graph.node("Where", [hidden, lowest, zero], "mask.values")
        additive = graph.node("Unsqueeze", [values, graph.integers(1, 2)], "mask.additive")
        size = config.hidden_size // config.num_attention_heads
        attention = AttentionWriter(graph, size, self.batch, None, additive)
        write = LayerWriter(self.emit, config.hidden_act, attention, joined=False)
        for index, layer in enumerate(family_of("bert").layers_of(self.encoder.layers)):
            x = write(layer, x, f"layers.{index}", first=False)
        return x

    def lengthened(self) -> str:
        """States of the word pieces, (batch, sequence, width)."""
        graph, lengthen, width = self.emit.graph, self.encoder.lengthen, self.config.hidden_size
        shape = graph.node(
            "Concat", [graph.integers(-1), self.batch, graph.integers(width)], "lengthen.shape", axis=0
        )
        grid = graph.node("Reshape", [self.rows, shape], "lengthen.grid")
        turned = graph.node("Transpose", [grid], "lengthen.turned", perm=[1, 2, 0])
        row = graph.node("Unsqueeze", [self.mask, graph.integers(1)], "lengthen.mask")
        masked = graph.node("Mul", [turned, row], "lengthen.masked")
        sizes: dict[str, Any] = {"kernel_shape": [self.config.kernel], "strides": [self.config.stride]}
        full = graph.node("ConvTranspose", [masked, *self._weights(lengthen.conv)], "lengthen.conv", **sizes)
        start = graph.integers(lengthen.before)
        end = graph.node("Add", [self.sequence, start], "lengthen.end")
        cut = graph.node("Slice", [full, start, end, graph.integers(2)], "lengthen.cut")
        states = graph.node("Transpose", [cut], "lengthen.states", perm=[0, 2, 1])
        if self.encoder.skip is None:
            return states
        weight = graph.constant(to_array(self.encoder.skip.weight).T, "skip.weight")
        own = graph.node("MatMul", [self.embedded, weight], "skip.own")
        return graph.node("Sum", [states, own], "skip.sum")

    def _weights(self, conv: nn.Module) -> list[str]:
        path = self.emit.name_of(conv)
        return [
            self.emit.graph.weight(cast(Any, getattr(conv, part)), f"{path}.{part}")
            for part in ("weight", "bias")
        ]

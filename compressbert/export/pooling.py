"""Writes how the vectors of tokens become one vector of a text, as ONNX nodes."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from compressbert.export.graph import GraphBuilder
from compressbert.model.pooling import Pooling


def write_mean(graph: GraphBuilder, rows: str, mask: str, name: str, *, least: float, stem: str) -> str:
    """The mean over the positions of a mask.

    Args:
        graph: Where to write.
        rows: (batch, sequence, width).
        mask: (batch, sequence) of 0 and 1, int64.
        name: Of the result, (batch, width).
        least: What the number of positions counts as where it is less.
        stem: What the names of the values on the way start with.
    """
    real = graph.node("Cast", [mask], f"{stem}.real", to=TensorProto.FLOAT)
    by_row = graph.node("Unsqueeze", [real, graph.integers(1)], f"{stem}.weights")  # (batch, 1, sequence)
    total = graph.node("MatMul", [by_row, rows], f"{stem}.total")  # (batch, 1, width)
    summed = graph.node("Squeeze", [total, graph.integers(1)], f"{stem}.sum")
    count = graph.node("ReduceSum", [real, graph.integers(1)], f"{stem}.count", keepdims=1)
    some = graph.node(
        "Max", [count, graph.constant(np.float32(least), f"pooling.least.{least:g}")], f"{stem}.some"
    )
    return graph.node("Div", [summed, some], name)


def write_pooling(graph: GraphBuilder, pooling: Pooling, hidden: str, name: str) -> str:
    """States (batch, sequence, width) to a vector of each text, (batch, width), called ``name``."""
    pooled = "pooling.pooled" if pooling.normalize else name
    if pooling.mode == "cls":
        zero = graph.constant(np.array(0, np.int64), "index.0")
        graph.node("Gather", [hidden, zero], pooled, axis=1)
    else:
        write_mean(graph, hidden, "attention_mask", pooled, least=1e-9, stem="pooling")
    if pooling.normalize:
        squares = graph.node("Mul", [pooled, pooled], "pooling.squares")
        total = graph.node("ReduceSum", [squares, graph.integers(1)], "pooling.square_sum", keepdims=1)
        length = graph.node("Sqrt", [total], "pooling.length")
        least = graph.constant(np.float32(1e-12), "pooling.shortest")
        graph.node("Div", [pooled, graph.node("Max", [length, least], "pooling.divisor")], name)
    return name

"""Writes rotary positions as ONNX nodes: queries and keys are turned by where their token stands.

J. Su et al. RoFormer: Enhanced Transformer with Rotary Position Embedding. Neurocomputing 2024. arXiv 2104.09864

Turning does not depend on the scale of a query, so that the softmax' scaling stays in its weights; and it leaves the
first token, at position 0, as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto
from torch import Tensor

from compressbert.export.graph import MICROSOFT, GraphBuilder, to_array
from compressbert.export.packing import Packing, Sizes


def write_positions(graph: GraphBuilder, sizes: Sizes, packing: Packing | None) -> str:
    """The position of every row in its text, (rows, 1) int64."""

    def full() -> str:
        zero = graph.constant(np.array(0, np.int64), "index.0")
        one = graph.constant(np.array(1, np.int64), "index.1")
        last = graph.node("Squeeze", [sizes.sequence], "positions.count")
        counted = graph.node("Range", [zero, last, one], "positions.counted")
        column = graph.node("Unsqueeze", [counted, graph.integers(1)], "positions.column")
        shape = graph.node("Concat", [sizes.sequence, sizes.batch], "positions.shape", axis=0)
        grid = graph.node("Expand", [column, shape], "positions.grid")  # (sequence, batch)
        return graph.node("Reshape", [grid, graph.integers(-1, 1)], "positions.full")

    if packing is None:
        return full()

    def padded() -> str:
        found = graph.node("Mod", [packing.places, sizes.sequence], "positions.of_places")
        return graph.node("Unsqueeze", [found, graph.integers(1)], "positions.padded")

    (value,) = graph.branch(
        packing.full, {"positions": TensorProto.INT64}, then=lambda: [full()], otherwise=lambda: [padded()]
    )
    return value


@dataclass(frozen=True)
class Rotary:
    """Turns rows by their positions, at the speeds of one kind of layer.

    Attributes:
        graph: Where to write.
        positions: From `write_positions`.
        cos, sin: (positions, head size / 2) fp32.
    """

    graph: GraphBuilder
    positions: str
    cos: str
    sin: str

    @classmethod
    def of(cls, graph: GraphBuilder, positions: str, speeds: Tensor, count: int, name: str) -> Rotary:
        """Tables for ``count`` positions at these speeds, (head size / 2,) radians a position."""
        angles = np.arange(count, dtype=np.float32)[:, None] * to_array(speeds)
        cos = graph.constant(np.cos(angles), f"{name}.cos")
        return cls(graph, positions, cos, graph.constant(np.sin(angles), f"{name}.sin"))

    def __call__(self, rows: str, heads: int, name: str) -> str:
        """(rows, heads · head size) to the same; feature i of a head is turned together with i + half its size."""
        graph = self.graph
        apart = graph.node(
            "Unsqueeze", [rows, graph.integers(1)], f"{name}.apart"
        )  # each row a text of one token
        turned = graph.node(
            "RotaryEmbedding", [apart, self.positions, self.cos, self.sin], f"{name}.turned",
            domain=MICROSOFT, interleaved=0, num_heads=heads,
        )  # fmt: skip
        return graph.node("Squeeze", [turned, graph.integers(1)], name)

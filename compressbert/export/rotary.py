"""Writes rotary positions as ONNX nodes: queries and keys are turned by where their token stands.

J. Su et al. RoFormer: Enhanced Transformer with Rotary Position Embedding. Neurocomputing 2024. arXiv 2104.09864

Turning does not depend on the scale of a query, so that the softmax' scaling stays in its weights; and it leaves the
first token, at position 0, as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from compressbert.export.graph import MICROSOFT, GraphBuilder, to_array


@dataclass(frozen=True)
class Rotary:
    """Turns rows by their positions, at the speeds of one kind of layer.

    Attributes:
        graph: Where to write.
        positions: From `positions.write_positions`.
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
        # Each row is a text of one token.
        apart = graph.node("Unsqueeze", [rows, graph.integers(1)], f"{name}.apart")
        turned = graph.node(
            "RotaryEmbedding", [apart, self.positions, self.cos, self.sin], f"{name}.turned",
            domain=MICROSOFT, interleaved=0, num_heads=heads,
        )  # fmt: skip
        return graph.node("Squeeze", [turned, graph.integers(1)], name)

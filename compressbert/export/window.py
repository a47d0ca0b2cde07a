"""Writes attention within a window as ONNX nodes: a token reads those that stand no further from it than a reach.

Where every token reaches all others, which is the rule for single sentences, scores are left alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from compressbert.export.graph import GraphBuilder
from compressbert.export.packing import Sizes, first_numbers
from compressbert.export.positions import positions_between


@dataclass(frozen=True)
class Window:
    """How far tokens see.

    Attributes:
        graph: Where to write.
        reach: The largest distance that is still read.
        positions: (rows, 1) int64: where each row stands in its text.
        short: Whether every token reaches all others, a boolean scalar.
        grid: (sequence, sequence) fp32, or (1, 1) where ``short``: 0 within reach, the lowest number beyond.
    """

    graph: GraphBuilder
    reach: int
    positions: str
    short: str
    grid: str

    @classmethod
    def of(cls, graph: GraphBuilder, sizes: Sizes, positions: str, reach: int) -> Window:
        """Write what all layers share."""
        length = graph.node("Squeeze", [sizes.sequence], "window.length")
        most = graph.constant(np.array(reach + 1, np.int64), f"index.{reach + 1}")
        short = graph.node("LessOrEqual", [length, most], "window.short")

        def whole() -> str:
            counted = first_numbers(graph, sizes.sequence, "window.counted")
            return _beyond(graph, counted, counted, reach, "window.far")

        def nothing() -> str:
            return graph.node(
                "Identity", [graph.constant(np.zeros((1, 1), np.float32), "window.none")], "window.near"
            )

        (grid,) = graph.branch(
            short, {"window": TensorProto.FLOAT}, then=lambda: [nothing()], otherwise=lambda: [whole()]
        )
        return cls(graph, reach, positions, short, grid)

    def of_first(self, name: str) -> str:
        """What the first token may read of a text, (1, sequence)."""
        graph = self.graph
        return graph.node("Slice", [self.grid, graph.integers(0), graph.integers(1)], f"{name}.first_window")

    def between(self, asking: list[str], asked: list[str], name: str) -> str:
        """What rows of a text may read of others, each given as start and end: (asking, asked) fp32."""
        places = positions_between(self.graph, self.positions, asking, asked, name)
        return _beyond(self.graph, *places, self.reach, f"{name}.window")


def _beyond(graph: GraphBuilder, asking: str, asked: str, reach: int, name: str) -> str:
    """0 where two positions are within reach of each other, the lowest fp32 number elsewhere."""
    column = graph.node("Unsqueeze", [asking, graph.integers(1)], f"{name}.column")
    distance = graph.node(
        "Abs", [graph.node("Sub", [column, asked], f"{name}.difference")], f"{name}.distance"
    )
    most = graph.constant(np.array(reach, np.int64), f"index.{reach}")
    far = graph.node("Greater", [distance, most], f"{name}.is_far")
    lowest = graph.constant(np.finfo(np.float32).min, "mask.lowest")
    return graph.node("Where", [far, lowest, graph.constant(np.float32(0), "mask.zero")], name)

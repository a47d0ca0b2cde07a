"""Writes a bias for the distance of two tokens, added to their attention scores, as ONNX nodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto
from torch import Tensor

from compressbert.export.graph import GraphBuilder, to_array
from compressbert.export.packing import Packing, Sizes, first_numbers
from compressbert.export.positions import positions_between


@dataclass(frozen=True)
class RelativeBias:
    """What every layer adds to its scores.

    Attributes:
        graph: Where to write.
        positions: (rows, 1) int64: where each row stands in its text.
        table: (heads, distances) fp32.
        middle: Where the table holds the distance 0.
        grid: (heads, sequence, sequence) where nothing is padded, or every position is a row; else (1, 1, 1).
        short: Nothing: a bias counts at every length.
    """

    graph: GraphBuilder
    positions: str
    table: str
    middle: int
    grid: str
    short: str = ""

    @classmethod
    def of(
        cls, graph: GraphBuilder, sizes: Sizes, packing: Packing | None, positions: str, biases: Tensor
    ) -> RelativeBias:
        """Write what all layers share; ``biases`` are (heads, distances), the distance 0 in the middle."""
        table, middle = graph.constant(to_array(biases), "bias.table"), biases.shape[1] // 2

        def whole() -> str:
            counted = first_numbers(graph, sizes.sequence, "bias.counted")
            return _between(graph, (table, middle), counted, counted, "bias.whole")

        def nothing() -> str:
            return graph.node(
                "Identity", [graph.constant(np.zeros((1, 1, 1), np.float32), "bias.none")], "bias.unused"
            )

        if packing is None:
            grid = whole()
        else:
            (grid,) = graph.branch(
                packing.full,
                {"bias": TensorProto.FLOAT},
                then=lambda: [whole()],
                otherwise=lambda: [nothing()],
            )
        return cls(graph, positions, table, middle, grid)

    def of_first(self, name: str) -> str:
        """What the first token adds, (heads, 1, sequence)."""
        graph = self.graph
        bounds = [graph.integers(0), graph.integers(1), graph.integers(1)]
        return graph.node("Slice", [self.grid, *bounds], f"{name}.first_bias")

    def between(self, asking: list[str], asked: list[str], name: str) -> str:
        """What rows of a text add for others, each given as start and end: (heads, asking, asked)."""
        places = positions_between(self.graph, self.positions, asking, asked, name)
        return _between(self.graph, (self.table, self.middle), *places, f"{name}.bias")


def _between(graph: GraphBuilder, table: tuple[str, int], asking: str, asked: str, name: str) -> str:
    values, middle = table
    column = graph.node("Unsqueeze", [asking, graph.integers(1)], f"{name}.column")
    distance = graph.node("Sub", [asked, column], f"{name}.distance")
    offset = graph.constant(np.array(middle, np.int64), f"index.{middle}")
    places = graph.node("Add", [distance, offset], f"{name}.places")
    return graph.node("Gather", [values, places], name, axis=1)

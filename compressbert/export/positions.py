"""Writes where rows of tokens stand in their texts, as ONNX nodes."""

from __future__ import annotations

from onnx import TensorProto

from compressbert.export.graph import GraphBuilder
from compressbert.export.packing import Packing, Sizes, first_numbers


def write_positions(graph: GraphBuilder, sizes: Sizes, packing: Packing | None) -> str:
    """The position of every row in its text, (rows, 1) int64."""

    def full() -> str:
        counted = first_numbers(graph, sizes.sequence, "positions.counted")
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


def positions_between(
    graph: GraphBuilder, positions: str, asking: list[str], asked: list[str], name: str
) -> tuple[str, str]:
    """The positions of rows that ask and of rows that are asked, each given as start and end: int64 vectors."""

    def within(bounds: list[str], part: str) -> str:
        rows = graph.node("Slice", [positions, *bounds], f"{name}.{part}_positions")
        return graph.node("Reshape", [rows, graph.integers(-1)], f"{name}.{part}_places")

    return within(asking, "asking"), within(asked, "asked")

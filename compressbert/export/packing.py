"""Packed tokens: token-wise work on real tokens only, attention on the padded view.

A batch padded to its longest text holds many positions nobody reads. Products, LayerNorms and activations do
not mix tokens, so the graph runs them on the rows of real tokens alone and goes back to the padded view only
where tokens meet, in attention. A text's first position is kept even if the mask hides it: heads read it.

Row order is sequence first, so the first tokens of all texts are the first ``batch`` rows in either form.
Where nothing is padded the rows are all positions, and the graph takes a branch without index and mask:
a single text or a full batch pays one test of the mask.

In the padded view a padded position repeats the first token of its own text. It is masked as a key, and as a
query it computes what the first token computes, so it never widens the range that int8 activations take.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from compressbert.export.graph import GraphBuilder

NEGLIGIBLE = np.float32(-40)  # a weight of e^-40 = 4e-18 beside one of at least 1 / tokens


@dataclass(frozen=True)
class Sizes:
    """Values of the graph that hold its dynamic sizes, each an int64 vector of one element."""

    batch: str
    sequence: str


@dataclass(frozen=True)
class Packing:
    """Which positions of the padded, sequence-first view are rows; empty values where nothing is padded.

    Attributes:
        full: Whether no position is padded, a scalar.
        places: (rows,) int64: the position of every row in the padded view, counted over (sequence, batch).
        rows: (sequence · batch,) int64: the row of every position; a padded one has its text's first token.
        mask: (batch, 1, 1, sequence) fp32, to be added to scores.
    """

    full: str
    places: str
    rows: str
    mask: str

    def choose(
        self, graph: GraphBuilder, name: str, *, full: Callable[[], str], padded: Callable[[], str]
    ) -> str:
        """An fp32 value that is written one way where nothing is padded, and another way elsewhere."""
        (value,) = graph.branch(
            self.full, {name: TensorProto.FLOAT}, then=lambda: [full()], otherwise=lambda: [padded()]
        )
        return value


def write_sizes(graph: GraphBuilder) -> Sizes:
    """The sizes of the inputs."""
    shape = graph.node("Shape", ["input_ids"], "input_shape")
    return Sizes(
        batch=graph.node("Slice", [shape, graph.integers(0), graph.integers(1)], "batch_size"),
        sequence=graph.node("Slice", [shape, graph.integers(1), graph.integers(2)], "sequence_length"),
    )


def write_packing(graph: GraphBuilder, sizes: Sizes) -> Packing:
    """Write what tells real tokens from padding."""
    smallest = graph.node("ReduceMin", ["attention_mask"], "packing.smallest", keepdims=0)
    full = graph.node("Cast", [smallest], "packing.full", to=TensorProto.BOOL)
    nothing = graph.constant(np.empty(0, np.int64), "packing.nothing")
    no_mask = graph.constant(np.empty(0, np.float32), "packing.no_mask")
    kinds = {
        "packing.places": TensorProto.INT64,
        "packing.rows": TensorProto.INT64,
        "mask": TensorProto.FLOAT,
    }
    places, rows, mask = graph.branch(
        full,
        kinds,
        then=lambda: [
            graph.node("Identity", [value], f"packing.empty_{index}")
            for index, value in enumerate((nothing, nothing, no_mask))
        ],
        otherwise=lambda: [*_places_and_rows(graph, sizes), packed_mask(graph, "packing.mask")],
    )
    return Packing(full, places, rows, mask)


def _places_and_rows(graph: GraphBuilder, sizes: Sizes) -> tuple[str, str]:
    by_position = graph.node("Transpose", ["attention_mask"], "packing.mask_by_position", perm=[1, 0])
    later = [graph.integers(1), graph.integers(2**31 - 1), graph.integers(0)]
    after_first = graph.node("Slice", [by_position, *later], "packing.after_first")
    one = graph.constant(np.array(1, np.int64), "index.1")
    kept = graph.node("Pad", [after_first, graph.integers(1, 0, 0, 0), one], "packing.kept")
    is_row = graph.node("Cast", [kept], "packing.is_row", to=TensorProto.BOOL)  # (sequence, batch)
    flat = graph.node("Reshape", [is_row, graph.integers(-1)], "packing.is_row_flat")
    found = graph.node("NonZero", [flat], "packing.found")  # (1, rows)
    places = graph.node("Reshape", [found, graph.integers(-1)], "packing.found_places")
    zero = graph.constant(np.array(0, np.int64), "index.0")
    counted = graph.node("Cast", [flat], "packing.counted", to=TensorProto.INT64)
    before = graph.node("CumSum", [counted, zero], "packing.rows_before", exclusive=1)
    grid = graph.node("Shape", [is_row], "packing.grid")
    numbers = graph.node("Reshape", [before, grid], "packing.numbers")
    batch = graph.node("Squeeze", [sizes.batch], "packing.batch")
    first = graph.node("Range", [zero, batch, one], "packing.first_rows")  # (batch,)
    by_place = graph.node("Where", [is_row, numbers, first], "packing.row_grid")
    return places, graph.node("Reshape", [by_place, graph.integers(-1)], "packing.row_of_place")


def additive_mask(graph: GraphBuilder, name: str) -> str:
    """0 where a key may be read, the lowest fp32 number where not: (batch, 1, 1, sequence)."""
    lowest = graph.constant(np.finfo(np.float32).min, "mask.lowest")
    return _mask_of(graph, lowest, name)


def packed_mask(graph: GraphBuilder, name: str) -> str:
    """The same for the padded view of packed tokens, with `NEGLIGIBLE` instead wherever that is exact.

    A weight of e^-88 or less is a denormal number, and arithmetic on those is tens of times slower. In the
    padded view a hidden key is that of the text's first token; if that one may be read, its score is no larger
    than the largest, so `NEGLIGIBLE` leaves a weight that no fp32 sum can hold, and it is a normal number.
    """
    zero = graph.constant(np.array(0, np.int64), "index.0")
    first = graph.node(
        "Slice", ["attention_mask", graph.integers(0), graph.integers(1), graph.integers(1)], f"{name}.first"
    )
    no_first = graph.node("Equal", [first, zero], f"{name}.first_hidden")  # (batch, 1)
    lowest = graph.constant(np.finfo(np.float32).min, "mask.lowest")
    negligible = graph.constant(NEGLIGIBLE, "mask.negligible")
    return _mask_of(graph, graph.node("Where", [no_first, lowest, negligible], f"{name}.low"), name)


def _mask_of(graph: GraphBuilder, low: str, name: str) -> str:
    zero = graph.constant(np.array(0, np.int64), "index.0")
    hidden = graph.node("Equal", ["attention_mask", zero], f"{name}.hidden")
    values = graph.node("Where", [hidden, low, graph.constant(np.float32(0), "mask.zero")], f"{name}.values")
    return graph.node("Unsqueeze", [values, graph.integers(1, 2)], name)

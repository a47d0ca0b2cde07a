"""Packed tokens: everything is computed for real tokens only.

A batch padded to its longest text holds many positions nobody reads. Products, LayerNorms and activations do
not mix tokens, so they run on the rows of real tokens alone. Attention mixes those of one text, so it runs
text by text on that text's rows: no padded view, no mask, no arithmetic on weights that are zero.

A text's first position is kept even if the mask hides it, because heads read it; it is then no key. The rows
of padded batches lie text by text. Where nothing is padded the graph takes another branch, in which all
positions are rows and lie sequence first, so that attention runs over the whole batch at once. A single text
or a full batch thus pays one test of the mask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from compressbert.export.graph import GraphBuilder

LONG = 320  # tokens from which the scores of a dozen heads, 5 MB, are more than a core's second-level cache holds


@dataclass(frozen=True)
class Sizes:
    """Values of the graph that hold its dynamic sizes, each an int64 vector of one element."""

    batch: str
    sequence: str


@dataclass(frozen=True)
class Packing:
    """Which positions are rows. All but ``full`` and ``short`` are int64.

    Where nothing is padded, ``places``, ``key_starts`` and ``ends`` are empty.

    Attributes:
        full: Whether no position is padded, a scalar.
        short: Whether no position is padded and no text is long; see `LONG`.
        abreast: (1,): how many texts lie side by side in the rows: the batch size, or 1 where text follows text.
        places: (rows,): the position of every row, counted over (batch, sequence).
        starts: (batch,): the row of every text's first token.
        key_starts: (batch,): the first row of every text that may be read.
        ends: (batch,): the row after every text's last one.
    """

    full: str
    short: str
    abreast: str
    places: str
    starts: str
    key_starts: str
    ends: str

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
    below = graph.node("Less", [sizes.sequence, graph.integers(LONG)], "packing.below")
    short = graph.node("And", [full, below], "packing.short")
    names = [f"packing.{part}" for part in ("abreast", "places", "starts", "key_starts", "ends")]
    nothing = graph.constant(np.empty(0, np.int64), "packing.nothing")
    abreast, places, starts, key_starts, ends = graph.branch(
        full,
        dict.fromkeys(names, TensorProto.INT64),
        then=lambda: [
            graph.node("Identity", [sizes.batch], "packing.abreast.full"),
            graph.node("Identity", [nothing], "packing.places.full"),
            first_numbers(graph, sizes.batch, "packing.starts.full"),  # of rows that lie sequence first
            *(graph.node("Identity", [nothing], f"{name}.full") for name in names[3:]),
        ],
        otherwise=lambda: [
            graph.node("Identity", [graph.integers(1)], "packing.abreast.padded"),
            *_write_rows(graph),
        ],
    )
    return Packing(full, short, abreast, places, starts, key_starts, ends)


def first_numbers(graph: GraphBuilder, count: str, name: str) -> str:
    """0, 1, … below ``count``, an int64 vector of one element."""
    zero, one = (graph.constant(np.array(number, np.int64), f"index.{number}") for number in (0, 1))
    end = graph.node("Squeeze", [count], f"{name}.end")
    return graph.node("Range", [zero, end, one], name)


def _write_rows(graph: GraphBuilder) -> list[str]:
    """Places, starts, key starts and ends of the rows of padded texts."""
    kept = _with_first(graph, "packing")
    flat = graph.node("Reshape", [kept, graph.integers(-1)], "packing.kept_flat")
    places = graph.node(
        "Reshape", [graph.node("NonZero", [flat], "packing.found"), graph.integers(-1)], "packing.kept_places"
    )
    zero = graph.constant(np.array(0, np.int64), "index.0")
    is_row = graph.node("Cast", [kept], "packing.is_row", to=TensorProto.BOOL)
    counted = graph.node("Cast", [is_row], "packing.counted", to=TensorProto.INT64)
    lengths = graph.node("ReduceSum", [counted, graph.integers(1)], "packing.lengths", keepdims=0)
    ends = graph.node("CumSum", [lengths, zero], "packing.text_ends")
    starts = graph.node("Sub", [ends, lengths], "packing.text_starts")
    first = graph.node("Gather", ["attention_mask", zero], "packing.first_mask", axis=1)
    hidden = graph.node("Equal", [first, zero], "packing.first_hidden")
    skipped = graph.node("Cast", [hidden], "packing.skipped", to=TensorProto.INT64)
    after = graph.node("Add", [starts, skipped], "packing.after_hidden")
    # A text without any token reads its own first position: some finite answer, and nobody else's.
    last = graph.node("Sub", [ends, graph.constant(np.array(1, np.int64), "index.1")], "packing.last_rows")
    return [places, starts, graph.node("Min", [after, last], "packing.text_key_starts"), ends]


def _with_first(graph: GraphBuilder, name: str) -> str:
    """The mask, with every text's first position in it."""
    later = [graph.integers(1), graph.integers(2**31 - 1), graph.integers(1)]
    after_first = graph.node("Slice", ["attention_mask", *later], f"{name}.after_first")
    one = graph.constant(np.array(1, np.int64), "index.1")
    return graph.node("Pad", [after_first, graph.integers(0, 1, 0, 0), one], f"{name}.kept")


def rows_of_positions(graph: GraphBuilder) -> str:
    """(batch, sequence) int64: the row of every position; a padded one has some row. For padded batches."""
    flat = graph.node(
        "Reshape", [_with_first(graph, "packing.grid"), graph.integers(-1)], "packing.grid_flat"
    )
    is_row = graph.node("Cast", [flat], "packing.grid_is_row", to=TensorProto.BOOL)
    counted = graph.node("Cast", [is_row], "packing.grid_counted", to=TensorProto.INT64)
    zero = graph.constant(np.array(0, np.int64), "index.0")
    one = graph.constant(np.array(1, np.int64), "index.1")
    numbers = graph.node(
        "Sub", [graph.node("CumSum", [counted, zero], "packing.grid_sum"), one], "packing.grid_numbers"
    )
    shape = graph.node("Shape", ["input_ids"], "packing.grid_shape")
    return graph.node("Reshape", [numbers, shape], "packing.grid")


def additive_mask(graph: GraphBuilder) -> str:
    """0 where a key may be read, the lowest fp32 number where not: (batch, 1, 1, sequence)."""
    zero = graph.constant(np.array(0, np.int64), "index.0")
    hidden = graph.node("Equal", ["attention_mask", zero], "mask.hidden")
    lowest = graph.constant(np.finfo(np.float32).min, "mask.lowest")
    values = graph.node("Where", [hidden, lowest, graph.constant(np.float32(0), "mask.zero")], "mask.values")
    return graph.node("Unsqueeze", [values, graph.integers(1, 2)], "mask")

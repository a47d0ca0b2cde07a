"""Large batches, group by group: as many texts at a time as the second-level cache of a core has room for.

What a feed-forward network writes for a thousand tokens is three times that cache, so every operator fetches its
input from memory; for half as many it stays near. The whole graph therefore stands in a loop over groups of texts,
which a batch that is small enough runs through once. Weights stay outside of it and are stored once.

One level of nesting is all there may be around products: in deeper ones onnxruntime arranges weights anew at every
call. Int8 activations take their range from their group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import helper

from compressbert.export.graph import GraphBuilder
from compressbert.export.heads import Output
from compressbert.model.handle import Model

_LOOP = "groups"
_BYTES = 3 * 2**20  # of fp32 activations at the widest place: measured best where the cache has 2 MB
_LEAST = 128  # rows that products need to be worth their call


def group_rows(model: Model) -> int:
    """About how many real tokens a group of texts has."""
    widest = max(max(layer.ffn, layer.hidden) for layer in model.family.layers(model.network))
    return max(_BYTES // (4 * widest), _LEAST)


def write_in_groups(
    graph: GraphBuilder, inputs: Sequence[str], rows: int, write: Callable[[], tuple[Output, ...]]
) -> tuple[Output, ...]:
    """Write a graph that computes its batch in groups.

    Args:
        graph: Where to write.
        inputs: What ``write`` reads, int64 (batch, sequence) each.
        rows: About how many real tokens a group has. Groups have equally many texts, the last one perhaps fewer.
        write: Writes the nodes for one group and returns its outputs, fp32 with the batch first.

    Returns:
        The outputs for the whole batch, of the same names.
    """
    texts, groups = _write_sizes(graph, rows)
    instead = {name: f"{_LOOP}.{name}" for name in inputs}
    outputs: list[Output] = []

    def one_group(number: str) -> list[str]:
        first = graph.node("Mul", [number, texts], f"{_LOOP}.first")
        end = graph.node("Add", [first, texts], f"{_LOOP}.end")
        for name, own in instead.items():
            graph.node("Slice", [name, first, end], own)
        with graph.reading(instead):
            outputs.extend(write())
        return [output.name for output in outputs]

    graph.for_each(groups, _LOOP, one_group)
    return tuple(outputs)


def _write_sizes(graph: GraphBuilder, rows: int) -> tuple[str, str]:
    """How many texts a group has, and how many groups there are: int64 vectors of one element."""
    one = graph.integers(1)
    size, half = (
        graph.constant(np.array(number, np.int64), f"{_LOOP}.{name}")
        for name, number in (("rows", rows), ("half", (rows + 1) // 2))
    )
    shape = graph.node("Shape", ["input_ids"], f"{_LOOP}.shape")
    batch = graph.node("Slice", [shape, graph.integers(0), one], f"{_LOOP}.batch")
    batch = graph.node("Max", [batch, one], f"{_LOOP}.batch_or_one")  # an empty batch is a group too
    real = graph.node("ReduceSum", ["attention_mask"], f"{_LOOP}.real", keepdims=0)
    # Rounded: half a group more is no further group. Division cuts towards zero, so few tokens give 0 here.
    beyond = graph.node("Sub", [real, half], f"{_LOOP}.beyond")
    further = graph.node("Div", [beyond, size], f"{_LOOP}.further")
    wanted = graph.node("Add", [further, one], f"{_LOOP}.wanted")
    texts = _divided_up(graph, batch, wanted, f"{_LOOP}.texts")
    return texts, _divided_up(graph, batch, texts, f"{_LOOP}.count")


def _divided_up(graph: GraphBuilder, whole: str, part: str, name: str) -> str:
    """``whole / part``, rounded up."""
    less = graph.node("Sub", [part, graph.integers(1)], f"{name}.less")
    return graph.node("Div", [graph.node("Add", [whole, less], f"{name}.more"), part], name)


def ungrouped(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the loop over groups taken away, so that values inside can be looked at.

    It computes the same for a batch of one group. One without such a loop stays as it is.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    bodies = [
        attribute.g
        for node in graph.node
        for attribute in node.attribute
        if node.op_type == "Loop" and attribute.g.name == f"{_LOOP}.body"
    ]
    if not bodies:
        return made
    own = {f"{_LOOP}.{name}" for name in ("first", "end", "going_on", *(value.name for value in graph.input))}
    inside = [node for node in bodies[0].node if node.name not in own and node.op_type != "SequenceInsert"]
    del graph.node[:]
    for value in graph.input:
        graph.node.append(helper.make_node("Identity", [value.name], [f"{_LOOP}.{value.name}"]))
    graph.node.extend(inside)
    for value in graph.output:
        graph.node.append(helper.make_node("Identity", [f"{_LOOP}.{value.name}"], [value.name]))
    return made

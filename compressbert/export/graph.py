"""A small writer of ONNX graphs: nodes and weights under readable names, stored once, in a fixed order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor

from compressbert import __version__

MICROSOFT = "com.microsoft"
OWN = "compressbert"  # of functions, which a file defines itself from operators of the others

# The file format that came with each operator set, and the first onnxruntime that opens both.
_IR_VERSION = {17: 8, 18: 8, 19: 9, 20: 9, 21: 10}
OLDEST_ONNXRUNTIME = {17: "1.12", 18: "1.14", 19: "1.15", 20: "1.17", 21: "1.18"}


class GraphBuilder:
    """Collects nodes and initializers of one graph.

    Every value carries the name it was given; the same name twice is an error of the caller. A tensor that
    several modules share becomes one initializer. Nothing depends on addresses or time, so the same model
    gives the same bytes.
    """

    def __init__(self) -> None:
        self._model = onnx.ModelProto()
        self._nodes = (
            self._model.graph.node
        )  # where nodes go: those of the graph, or of a branch being written
        self._constants: set[str] = set()
        self._stored: dict[tuple[Any, ...], tuple[str, Tensor]] = {}
        self._quantized: dict[tuple[str, object], tuple[str, str, str]] = {}
        self._values: set[str] = set()
        self._instead: Mapping[str, str] = {}
        self._functions: dict[str, onnx.FunctionProto] = {}

    def node(self, op: str, inputs: Sequence[str], name: str, *, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output; returns the output's name, which is ``name``."""
        return self.nodes(op, inputs, [name], domain=domain, **attributes)[0]

    def nodes(
        self, op: str, inputs: Sequence[str], names: Sequence[str], *, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs, called ``names``; the node is called like the first."""
        for name in names:
            if name in self._values:
                raise ValueError(f"two values of the graph are called {name}")
            self._values.add(name)
        read = [self._instead.get(value, value) for value in inputs]
        node = helper.make_node(op, read, list(names), name=names[0], domain=domain, **attributes)
        self._nodes.append(node)
        return list(names)

    def branch(
        self,
        condition: str,
        kinds: Mapping[str, int],
        *,
        then: Callable[[], Sequence[str]],
        otherwise: Callable[[], Sequence[str]],
    ) -> list[str]:
        """Values that are computed in one of two ways, as ``condition``, a boolean scalar, says at run time.

        Args:
            condition: The scalar.
            kinds: Names of the values to their ONNX element types.
            then: Writes the nodes of the first way and returns its values, in the order of ``kinds``.
            otherwise: The same for the second way. What one way writes is not seen outside of it.
        """
        ways = [self._subgraph(way, kinds, write) for way, write in (("then", then), ("else", otherwise))]
        return self.nodes("If", [condition], list(kinds), then_branch=ways[0], else_branch=ways[1])

    def for_each(self, count: str, name: str, write: Callable[[str], Sequence[str]]) -> list[str]:
        """What ``write`` gives for 0, 1, … one after the other, each of its values joined along the first axis.

        Args:
            count: How often, an int64 vector of one element, at least 1.
            name: Of the loop.
            write: Is given the number as an int64 scalar, writes the nodes of one turn and returns its values, fp32.

        Returns:
            The joined values. They take the names that ``write`` gave to the parts, which get others.
        """
        number, going = f"{name}.number", f"{name}.going"
        body, outside = onnx.GraphProto(name=f"{name}.body"), self._nodes
        self._nodes = body.node
        try:
            values = list(write(number))
            parts = self._set_aside(body, {value: f"{name}.{value.split('.')[-1]}" for value in values})
            before, after = ([f"{part}.{when}" for part in parts] for when in ("before", "after"))
            for held, part, more in zip(before, parts, after, strict=True):
                self.node("SequenceInsert", [held, part], more)
            self.node("Identity", [going], f"{name}.going_on")
        finally:
            self._nodes = outside
        sequence = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
        body.input.extend(
            [
                helper.make_tensor_value_info(number, TensorProto.INT64, []),
                helper.make_tensor_value_info(going, TensorProto.BOOL, []),
                *(helper.make_value_info(held, sequence) for held in before),
            ]
        )
        body.output.extend(
            [
                helper.make_tensor_value_info(f"{name}.going_on", TensorProto.BOOL, []),
                *(helper.make_value_info(more, sequence) for more in after),
            ]
        )
        turns = self.node("Squeeze", [count], f"{name}.turns")
        empty = self.node("SequenceEmpty", [], f"{name}.empty", dtype=TensorProto.FLOAT)
        found = self.nodes(
            "Loop", [turns, "", *[empty] * len(parts)], [f"{part}.all" for part in parts], body=body
        )
        return [
            self.node("ConcatFromSequence", [all_parts], value, axis=0)
            for all_parts, value in zip(found, values, strict=True)
        ]

    def function(
        self, name: str, inputs: Sequence[str], name_of_output: str, write: Callable[[], object]
    ) -> str:
        """Define a function of the file, once: nodes that are stored in one place and called in many.

        onnxruntime puts its nodes in the place of every call when it opens the file.

        Args:
            name: Of the function.
            inputs: Names of what it is given, in its nodes.
            name_of_output: The value it gives.
            write: Writes its nodes, which see nothing but ``inputs``. Its values may be called as those outside.

        Returns:
            The operator to write a node of, with ``domain=OWN``.
        """
        if name in self._functions:
            return name
        made = self._model.functions.add(name=name, domain=OWN)
        made.input.extend(inputs)
        made.output.append(name_of_output)
        self._functions[name] = made
        outside = self._nodes, self._values, self._instead
        self._nodes, self._values, self._instead = made.node, set(inputs), {}
        try:
            write()
        finally:
            self._nodes, self._values, self._instead = outside
        return name

    def _set_aside(self, body: onnx.GraphProto, names: Mapping[str, str]) -> list[str]:
        """Give values of a body other names, so that theirs are free outside of it; returns the new ones."""
        for node in body.node:
            node.name = names.get(node.name, node.name)
            for given in (node.input, node.output):
                given[:] = [names.get(value, value) for value in given]
        self._values = (self._values - names.keys()) | set(names.values())
        return list(names.values())

    @contextmanager
    def reading(self, instead: Mapping[str, str]) -> Iterator[None]:
        """Let nodes that are written meanwhile read the values of ``instead`` wherever they name its keys."""
        outside = self._instead
        self._instead = instead
        try:
            yield
        finally:
            self._instead = outside

    def _subgraph(
        self, name: str, kinds: Mapping[str, int], write: Callable[[], Sequence[str]]
    ) -> onnx.GraphProto:
        graph, outside = onnx.GraphProto(name=name), self._nodes
        self._nodes = graph.node
        try:
            values = write()
        finally:
            self._nodes = outside
        graph.output.extend(
            helper.make_tensor_value_info(value, kind, None)
            for value, kind in zip(values, kinds.values(), strict=True)
        )
        return graph

    def has(self, name: str) -> bool:
        """Whether a node already writes a value of this name."""
        return name in self._values

    def constant(self, array: NDArray[Any] | np.generic, name: str) -> str:
        """A constant of the graph; the same name again must mean the same content and is stored once."""
        if name not in self._constants:
            values = np.asarray(array)
            self._constants.add(name)
            # Filled in place: onnx.helper would copy every weight twice more.
            tensor = self._model.graph.initializer.add(name=name, dims=values.shape)
            tensor.data_type = helper.np_dtype_to_tensor_dtype(values.dtype)
            tensor.raw_data = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
        return name

    def integers(self, *values: int) -> str:
        """An int64 vector, for shapes and axes, stored once per content."""
        return self.constant(
            np.array(values, np.int64), "shape." + "_".join(str(v).replace("-", "n") for v in values)
        )

    def weight(self, tensor: Tensor, name: str) -> str:
        """A tensor of the model, stored once however many modules share it. Floating point becomes fp32."""
        key = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if key in self._stored:
            return self._stored[key][0]
        self._stored[key] = (name, tensor)  # holding the tensor keeps its address from being used again
        return self.constant(to_array(tensor), name)

    def quantized(self, x: str, fixed: tuple[float, int] | None = None) -> tuple[str, str, str]:
        """``x`` as uint8 with its scale and zero point, computed once for all products that read it.

        ``fixed`` holds a calibrated scale and zero point; None takes them from the values of each call.
        """
        if (x, fixed) not in self._quantized:
            stem = x if not self.has(f"{x}.uint8") else f"{x}.{len(self._quantized)}"
            if fixed is None:
                names = [f"{stem}.uint8", f"{stem}.scale", f"{stem}.zero_point"]
                value, scale, zero_point = self.nodes("DynamicQuantizeLinear", [x], names)
            else:
                scale = self.constant(np.float32(fixed[0]), f"{stem}.scale")
                zero_point = self.constant(np.uint8(fixed[1]), f"{stem}.zero_point")
                value = self.node("QuantizeLinear", [x, scale, zero_point], f"{stem}.uint8")
            self._quantized[x, fixed] = (value, scale, zero_point)
        return self._quantized[x, fixed]

    def finish(
        self,
        *,
        inputs: Sequence[str],
        outputs: Sequence[tuple[str, Sequence[str | int]]],
        opset: int,
        metadata: Mapping[str, str],
    ) -> onnx.ModelProto:
        """The model, once everything is in it.

        Args:
            inputs: Names of int64 inputs (batch, sequence).
            outputs: Name and axes of each fp32 output.
            opset: ONNX operator set.
            metadata: Written in the order of the keys.
        """
        graph = self._model.graph
        graph.name = "encoder"
        both = ["batch", "sequence"]
        graph.input.extend(helper.make_tensor_value_info(given, TensorProto.INT64, both) for given in inputs)
        graph.output.extend(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, list(axes)) for name, axes in outputs
        )
        self._model.ir_version = _IR_VERSION[opset]
        self._model.producer_name, self._model.producer_version = "compressbert", __version__
        read = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
        for function in self._functions.values():
            function.opset_import.extend(read)
        self._model.opset_import.extend([*read, *([helper.make_opsetid(OWN, 1)] if self._functions else [])])
        helper.set_model_props(self._model, dict(sorted(metadata.items())))
        return self._model


def every_node(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph, of its branches and of its loops."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from every_node(attribute.g)


def to_array(tensor: Tensor) -> NDArray[Any]:
    """A tensor as a numpy array on the CPU, floating point as fp32."""
    values = tensor.detach().cpu()
    array: NDArray[Any] = (values.float() if values.is_floating_point() else values).numpy()
    return array

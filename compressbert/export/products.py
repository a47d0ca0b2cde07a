"""The modules every transformer is made of, as ONNX nodes: products, LayerNorms, embeddings, activations.

Rows of tokens are the first axis throughout: (rows, width) goes in and (rows, other width) comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from torch import nn
from transformers.models.mobilebert.modeling_mobilebert import NoNorm

from compressbert.export.graph import MICROSOFT, GraphBuilder, to_array
from compressbert.nn.int8 import Int8Embedding, Int8Linear
from compressbert.nn.lowbit import LowBitEmbedding, LowBitLinear, pack
from compressbert.nn.slices import rows_of

# Activations of transformers by name, as the one kernel that computes them: operator, domain, attributes.
ACTIVATIONS: dict[str, tuple[str, str, dict[str, float]]] = {
    "gelu": ("Gelu", MICROSOFT, {}),  # exact, with erf
    "gelu_new": ("FastGelu", MICROSOFT, {}),
    "gelu_fast": ("FastGelu", MICROSOFT, {}),
    "gelu_pytorch_tanh": ("FastGelu", MICROSOFT, {}),
    "quick_gelu": ("QuickGelu", MICROSOFT, {"alpha": 1.702}),
    "silu": ("QuickGelu", MICROSOFT, {"alpha": 1.0}),
    "swish": ("QuickGelu", MICROSOFT, {"alpha": 1.0}),
    "relu": ("Relu", "", {}),
    "tanh": ("Tanh", "", {}),
}


@dataclass(frozen=True)
class Table:
    """A stored embedding table: its rows, and for int8 rows their scales (rows, 1).

    With ``block`` rows are packed codes of ``bits``, each block of columns with its scale: (rows, blocks).
    """

    weight: str
    scale: str | None = None
    bits: int = 8
    block: int | None = None


class Emitter:
    """Writes the modules of one network into a graph; weights keep the names they have in the checkpoint.

    ``skip_norm``: residuals and their LayerNorm in one node.
    """

    def __init__(self, graph: GraphBuilder, network: nn.Module, *, skip_norm: bool = False) -> None:
        self.graph = graph
        self._skip_norm = skip_norm
        self._divisors: dict[str, NDArray[np.float32]] = {}  # of values that are divided
        self._names: dict[nn.Module, str] = {module: name for name, module in network.named_modules()}

    def name_of(self, module: nn.Module) -> str:
        """Qualified name of a module of the network."""
        return self._names[module]

    def parts(self, module: nn.Module | None, names: Sequence[str]) -> list[nn.Module]:
        """Equal shares of a product's outputs as products of their own, called so behind the product's name."""
        found = rows_of(module, len(names))
        if module is not None:
            self._names |= {
                part: f"{self.name_of(module)}.{name}" for part, name in zip(found, names, strict=True)
            }
        return found

    def dense(self, x: str, module: nn.Module, name: str, *, scale: float = 1.0) -> str:
        """``scale · (x Wᵀ + b)``: (rows, in) to (rows, out), with scale and bias inside the product.

        fp32 weights stay (out, in), as in the checkpoint. int8 weights are transposed to (in, out), as the
        integer kernel takes them; its per-channel scales carry ``scale``.
        """
        if isinstance(module, Int8Linear):
            return self._integer_dense(x, module, name, scale)
        if isinstance(module, LowBitLinear):
            return self._low_bit_dense(x, module, name, scale)
        if not isinstance(module, nn.Linear):
            raise TypeError(f"{self.name_of(module)} is a {type(module).__name__}, not a Linear")
        path = self.name_of(module)
        factor = np.float32(scale)
        if scale == 1:
            inputs = [x, self.graph.weight(module.weight, f"{path}.weight")]
        else:
            inputs = [x, self.graph.constant(to_array(module.weight) * factor, f"{path}.weight")]
        if module.bias is not None:
            inputs.append(self.graph.constant(to_array(module.bias) * factor, f"{path}.bias"))
        return self.graph.node("Gemm", inputs, name, transB=1)

    def can_join(self, modules: Sequence[nn.Module]) -> bool:
        """Whether `joined_dense` can write these: fp32 with biases, or int8 on one grid with biases."""
        if any(getattr(module, "bias", None) is None for module in modules):
            return False
        if all(isinstance(module, nn.Linear) for module in modules):
            return True
        return all(
            isinstance(module, Int8Linear) and module.fixed is None and module.divisor is None
            for module in modules
        )

    def joined_dense(
        self, x: str, modules: Sequence[nn.Module], names: Sequence[str], *, scales: Sequence[float]
    ) -> list[str]:
        """Several products of one input in one, cut apart afterwards; values like those of `dense`."""
        graph, path = self.graph, self.name_of(modules[0])
        factors = [np.float32(scale) for scale in scales]
        pairs = list(zip(modules, factors, strict=True))
        bias = graph.constant(
            np.concatenate([to_array(module.bias) * factor for module, factor in pairs]),  # type: ignore[arg-type]
            f"{path}.joined.bias",
        )
        if isinstance(modules[0], Int8Linear):
            value, value_scale, zero_point = graph.quantized(x)
            integers = [module for module in modules if isinstance(module, Int8Linear)]
            matrix = np.concatenate([to_array(module.matrix).T for module in integers], axis=1)
            scale = np.concatenate([to_array(m.scale) * f for m, f in zip(integers, factors, strict=True)])
            weights = [graph.constant(matrix, f"{path}.joined.weight"), value_scale]
            weights += [graph.constant(scale, f"{path}.joined.scale"), zero_point, "", bias]
            joined = graph.node(
                "MatMulIntegerToFloat", [value, *weights], f"{names[0]}.joined", domain=MICROSOFT
            )
        else:
            matrix = np.concatenate([to_array(module.weight) * factor for module, factor in pairs])  # type: ignore[arg-type]
            weight = graph.constant(matrix, f"{path}.joined.weight")
            joined = graph.node("Gemm", [x, weight, bias], f"{names[0]}.joined", transB=1)
        cuts = graph.integers(*(int(module.out_features) for module in modules))  # type: ignore[arg-type]
        return graph.nodes("Split", [joined, cuts], list(names), axis=1)

    def _integer_dense(self, x: str, module: Int8Linear, name: str, scale: float) -> str:
        path = self.name_of(module)
        factor = np.float32(scale)
        fixed = None if module.fixed is None else (float(module.fixed[0]), int(module.fixed[1]))
        value, value_scale, zero_point = self.graph.quantized(self._divided(x, module), fixed)
        weight = self.graph.constant(to_array(module.matrix).T, f"{path}.weight")
        weight_scale = self._scale(to_array(module.scale) * factor, f"{path}.scale")
        inputs = [value, weight, value_scale, weight_scale, zero_point, ""]
        if module.bias is not None:
            inputs.append(self.graph.constant(to_array(module.bias) * factor, f"{path}.bias"))
        return self.graph.node("MatMulIntegerToFloat", inputs, name, domain=MICROSOFT)

    def _divided(self, x: str, module: Int8Linear) -> str:
        """``x`` over the module's divisors, once for all modules that read it: those find the same divisors.

        Only the few that are not 1 are stored; the vector is filled once, when the file is opened.
        """
        if module.divisor is None:
            return x
        graph, name, path = self.graph, f"{x}.divided", self.name_of(module)
        divisor = to_array(module.divisor)
        if not np.array_equal(self._divisors.setdefault(x, divisor), divisor):
            raise ValueError(f"{path} divides {x} otherwise than a module before it")
        if graph.has(name):
            return name
        ones, (places,) = f"ones.{len(divisor)}", np.nonzero(divisor != 1)
        if not graph.has(ones):
            one = numpy_helper.from_array(np.ones(1, np.float32))
            graph.node("ConstantOfShape", [graph.integers(len(divisor))], ones, value=one)
        which = graph.constant(places.astype(np.int64), f"{path}.outliers")
        values = graph.constant((1 / divisor[places]).astype(np.float32), f"{path}.outlier_factors")
        factor = graph.node("ScatterElements", [ones, which, values], f"{name}.factor")
        return graph.node("Mul", [x, factor], name)

    def _scale(self, values: NDArray[np.float32], name: str) -> str:
        """Scales as fp32; stored as fp16 where that loses nothing, and converted once, when the file is opened."""
        stored = _shortest(values)
        found = self.graph.constant(stored, name)
        if stored.dtype == np.float32:
            return found
        if self.graph.has(f"{name}.fp32"):  # of a module that several layers share
            return f"{name}.fp32"
        return self.graph.node("Cast", [found], f"{name}.fp32", to=TensorProto.FLOAT)

    def _low_bit_dense(self, x: str, module: LowBitLinear, name: str, scale: float) -> str:
        path, (_, _, block) = self.name_of(module), module.codes.shape
        packed = self.graph.constant(to_array(pack(module.codes, module.bits)), f"{path}.weight")
        factor = np.float32(scale)
        scales = self.graph.constant(to_array(module.block_scale).ravel() * factor, f"{path}.scale")
        inputs = [x, packed, scales]
        if module.bias is not None:
            bias = self.graph.constant(to_array(module.bias) * factor, f"{path}.bias")
            inputs += ["", "", bias]  # no zero points: the middle code; no order of groups
        sizes = {"K": module.in_features, "N": module.out_features, "bits": module.bits, "block_size": block}
        return self.graph.node("MatMulNBits", inputs, name, domain=MICROSOFT, **sizes)

    def norm(self, x: str, module: nn.Module, name: str) -> str:
        """LayerNorm over the last axis, or MobileBERT's NoNorm, which scales and shifts."""
        path = self.name_of(module)
        if isinstance(module, NoNorm):
            weight, bias = (
                self.graph.weight(getattr(module, part), f"{path}.{part}") for part in ("weight", "bias")
            )
            return self.graph.node("Add", [self.graph.node("Mul", [x, weight], f"{name}.scaled"), bias], name)
        if not isinstance(module, nn.LayerNorm):
            raise TypeError(f"{path} is a {type(module).__name__}, not a norm")
        inputs = [x, self.graph.weight(module.weight, f"{path}.weight")]
        if module.bias is not None:
            inputs.append(self.graph.weight(module.bias, f"{path}.bias"))
        return self.graph.node("LayerNormalization", inputs, name, axis=-1, epsilon=module.eps)

    def residual_norm(self, x: str, residual: str, module: nn.Module, name: str) -> str:
        """``LayerNorm(x + residual)``, written as Sum: onnxruntime fuses Add into a kernel that is slower."""
        if self._skip_norm and isinstance(module, nn.LayerNorm) and module.bias is not None:
            path = self.name_of(module)
            weights = [
                self.graph.weight(getattr(module, part), f"{path}.{part}") for part in ("weight", "bias")
            ]
            flat = [self.graph.node("Unsqueeze", [value, self.graph.integers(0)], f"{name}.{part}")
                    for part, value in (("x", x), ("residual", residual))]  # fmt: skip
            summed = self.graph.node(
                "SkipLayerNormalization",
                [*flat, *weights],
                f"{name}.normed",
                domain=MICROSOFT,
                epsilon=module.eps,
            )
            return self.graph.node("Squeeze", [summed, self.graph.integers(0)], name)
        return self.norm(self.graph.node("Sum", [x, residual], f"{name}.sum"), module, name)

    def activation(self, x: str, kind: str, name: str) -> str:
        """An activation of `ACTIVATIONS`."""
        op, domain, attributes = ACTIVATIONS[kind]
        return self.graph.node(op, [x], name, domain=domain, **attributes)

    def table(self, module: nn.Module, *, added: nn.Module | None = None) -> Table:
        """Store an embedding table; row 0 of ``added``, fp32 like the table, is added to every row."""
        path = self.name_of(module)
        if isinstance(module, Int8Embedding):
            scale = self.graph.constant(
                _shortest(to_array(module.scale)[:, None]), f"{path}.scale"
            )  # (rows, 1)
            return Table(self.graph.weight(module.matrix, f"{path}.weight"), scale)
        if isinstance(module, LowBitEmbedding):
            codes = pack(module.codes, module.bits).flatten(1)[
                :, : -(-module.embedding_dim * module.bits // 8)
            ]
            scale = self.graph.constant(to_array(module.block_scale), f"{path}.scale")
            packed = self.graph.constant(to_array(codes), f"{path}.weight")
            return Table(packed, scale, module.bits, module.codes.shape[2])
        if not isinstance(module, nn.Embedding):
            raise TypeError(f"{path} is a {type(module).__name__}, not an Embedding")
        if added is not None:
            folded = to_array(module.weight) + to_array(added.weight)[0]  # type: ignore[arg-type]
            return Table(self.graph.constant(folded, f"{path}.weight"))
        return Table(self.graph.weight(module.weight, f"{path}.weight"))

    def rows(self, table: Table, ids: str, name: str) -> str:
        """Rows of a table: ids of any shape (...) to (..., width)."""
        if table.scale is None:
            return self.graph.node("Gather", [table.weight, ids], name)
        if table.block is not None:
            return self.graph.node(
                "GatherBlockQuantized", [table.weight, ids, table.scale], name, domain=MICROSOFT,
                bits=table.bits, block_size=table.block, gather_axis=0, quantize_axis=1,
            )  # fmt: skip
        values = self.graph.node("Gather", [table.weight, ids], f"{name}.int8")
        return self._dequantize(values, self.graph.node("Gather", [table.scale, ids], f"{name}.scale"), name)

    def first_rows(self, table: Table, count: str, name: str) -> str:
        """Rows 0 to ``count``, an int64 vector of one element: (count, width)."""
        start = self.graph.integers(0)
        if table.scale is None:
            return self.graph.node("Slice", [table.weight, start, count], name)
        values = self.graph.node("Slice", [table.weight, start, count], f"{name}.int8")
        scale = self.graph.node("Slice", [table.scale, start, count], f"{name}.scale")
        return self._dequantize(values, scale, name)

    def _dequantize(self, x: str, scale: str, name: str) -> str:
        values = self.graph.node("Cast", [x], f"{name}.cast", to=TensorProto.FLOAT)
        scale = self.graph.node("Cast", [scale], f"{name}.scale.cast", to=TensorProto.FLOAT)  # fp16, mostly
        return self.graph.node("Mul", [values, scale], name)


def _shortest(values: NDArray[np.float32]) -> NDArray[np.generic]:
    """As fp16 where every value is one, else as they are."""
    with np.errstate(over="ignore", under="ignore"):
        half = values.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), values) else values

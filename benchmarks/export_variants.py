"""Times the choices of the graph writer against their alternatives, on one model, in interleaved workers.

    python benchmarks/export_variants.py MODEL_FOLDER [--precision int8] [--rounds 12]

Variants: the file as exported; the last layer for all tokens; queries, keys and values transposed before
the products (onnxruntime folds these back, so a difference means that it no longer does); residuals as Add,
which onnxruntime fuses into SkipLayerNormalization; `DynamicQuantizeMatMul` for every product instead of one
quantization per input; and, as fp32, PyTorch's exporter.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, helper

from compressbert import load
from compressbert.config.schema import BenchmarkSettings, ExportConfig
from compressbert.export import trace
from compressbert.export.graph import MICROSOFT
from compressbert.export.write import build
from compressbert.measure.latency import benchmark
from compressbert.model.edits import quantize_int8
from compressbert.model.handle import Model
from compressbert.results.measured import cell_name

Rewrite = Callable[[NodeProto], list[NodeProto]]


def rewritten(proto: ModelProto, rewrite: Rewrite) -> ModelProto:
    """A copy whose nodes are replaced one by one."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    nodes = [new for node in proto.graph.node for new in rewrite(node)]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def add_residuals(node: NodeProto) -> list[NodeProto]:
    """`Sum` of two values as `Add`."""
    if node.op_type == "Sum" and len(node.input) == 2:
        node = helper.make_node("Add", node.input, node.output, name=node.name)
    return [node]


def transposed_heads(node: NodeProto) -> list[NodeProto]:
    """Explicit transposes before plain products, as exporters write attention."""
    if node.op_type != "FusedMatMul":
        return [node]
    scores = node.name.endswith(".scores")
    orders = {0: [1, 2, 0, 3], 1: [1, 2, 3, 0] if scores else [1, 2, 0, 3]}
    inputs, nodes = list(node.input), []
    for position in (0, 1) if scores else (1,):
        name = f"{node.name}.turned_{position}"
        nodes.append(
            helper.make_node("Transpose", [inputs[position]], [name], name=name, perm=orders[position])
        )
        inputs[position] = name
    return [*nodes, helper.make_node("MatMul", inputs, node.output, name=node.name)]


def quantize_in_product(node: NodeProto) -> list[NodeProto]:
    """Every integer product quantizes its own input."""
    if node.op_type == "DynamicQuantizeLinear":
        return []
    if node.op_type != "MatMulIntegerToFloat":
        return [node]
    value, weight, _, scale, _, _, *bias = node.input
    inputs = [value.removesuffix(".uint8"), weight, scale, "", *bias]
    return [helper.make_node("DynamicQuantizeMatMul", inputs, node.output, name=node.name, domain=MICROSOFT)]


def write_variants(model: Model, folder: Path) -> dict[str, Path]:
    """One file per variant; the exported form first, as the baseline."""
    exported = build(model, ExportConfig())
    protos = {
        "exported": exported,
        "all tokens in the last layer": build(model, ExportConfig(optimize=False)),
        "transposed heads": rewritten(exported, transposed_heads),
        "Add residuals": rewritten(exported, add_residuals),
    }
    if model.is_int8:
        protos["quantized in each product"] = rewritten(exported, quantize_in_product)
    files = {}
    for name, proto in protos.items():
        files[name] = folder / f"{name.replace(' ', '_')}.onnx"
        onnx.save_model(proto, str(files[name]))
    if not model.is_int8:
        files["PyTorch's exporter"] = folder / "traced.onnx"
        trace.export(model, files["PyTorch's exporter"], opset=18)
    return files


def main() -> None:
    """Print for every variant and shape the median, and its speed relative to the exported form."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path)
    parser.add_argument("--precision", choices=["fp32", "int8"], default="int8")
    parser.add_argument("--rounds", type=int, default=12)
    arguments = parser.parse_args()
    model = load(arguments.model)
    if arguments.precision == "int8":
        quantize_int8(model)
    with tempfile.TemporaryDirectory() as folder:
        files = write_variants(model, Path(folder))
        timings = benchmark(files, BenchmarkSettings(rounds=arguments.rounds, sentences=16))
    for timing in timings:
        print(timing.name)
        for cell in timing.cells:
            name = cell_name(cell.batch, cell.length)
            ratio = timing.speedup_by_cell.get(name)
            against = f"speed x{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]" if ratio else ""
            print(f"  {name:8} {cell.p50_ms:8.2f} ms  {against}")


if __name__ == "__main__":
    main()

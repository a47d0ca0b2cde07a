"""Files with weights of few bits: what PyTorch computes with those weights, small, and refused where impossible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from compressbert.config.schema import ExportConfig
from compressbert.errors import ConfigError
from compressbert.export.graph import every_node
from compressbert.export.write import export_onnx
from compressbert.measure.runners import onnx_file
from compressbert.model import edits
from tests.export.stand import run_file, run_network, tiny_model, uneven_model
from tests.tiny import FAMILIES, padded_batch


@pytest.mark.parametrize("precision", ["int4", "int8-weight-only"])
@pytest.mark.parametrize("family", FAMILIES)
def test_files_agree_with_pytorch_and_are_deterministic(family: str, precision: str, tmp_path: Path) -> None:
    model, batch = uneven_model(family), padded_batch(family)
    settings = ExportConfig(precision=precision)  # type: ignore[arg-type]
    facts = export_onnx(model, tmp_path / "one", settings)  # checked against PyTorch
    (file,) = facts.files.values()
    again = export_onnx(model, tmp_path / "two", settings)
    assert file.read_bytes() == next(iter(again.files.values())).read_bytes()
    limit = 1.0 if precision == "int4" else 0.2
    assert np.abs(run_file(file, batch) - run_network(model, batch)).max() < limit
    proto = onnx.load(str(file))
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    assert (metadata["precision"], metadata["oldest_onnxruntime"]) == (precision, "1.23")
    operators = [node.op_type for node in every_node(proto.graph)]
    assert operators.count("MatMulNBits") >= 3 * 6
    assert ("GatherBlockQuantized" in operators) == (precision == "int4")
    assert onnx_file(tmp_path / "one") == file


def test_sizes(tmp_path: Path) -> None:
    model = tiny_model("bert", hidden=128, ffn=512, heads=4)
    size = {}
    for precision in ("fp32", "int8", "int8-weight-only", "int4"):
        settings = ExportConfig(precision=precision)  # type: ignore[arg-type]
        (file,) = export_onnx(model, tmp_path / precision, settings).files.values()
        weights = [t for t in onnx.load(str(file)).graph.initializer if t.name.endswith("dense.weight")]
        size[precision] = sum(len(tensor.raw_data) for tensor in weights if "layer." in tensor.name)
    assert size["int8"] == size["int8-weight-only"] == size["fp32"] / 4
    assert size["int4"] == size["fp32"] / 8


@pytest.mark.parametrize(
    ("embeddings", "operator", "kind"),
    [("fp32", "Gather", "FLOAT"), ("int8", "Gather", "INT8"), ("int4", "GatherBlockQuantized", "UINT8")],
)
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_the_word_table_is_chosen_apart(
    precision: str, embeddings: str, operator: str, kind: str, tmp_path: Path
) -> None:
    model, batch = tiny_model("bert"), padded_batch()
    settings = ExportConfig(precision=precision, embeddings=embeddings)  # type: ignore[arg-type]
    (file,) = export_onnx(model, tmp_path / "out", settings).files.values()
    graph = onnx.load(str(file)).graph
    (table,) = [t for t in graph.initializer if t.name == "bert.embeddings.word_embeddings.weight"]
    readers = {node.op_type for node in every_node(graph) if table.name in node.input}
    assert (readers, table.data_type) == ({operator}, getattr(onnx.TensorProto, kind))
    assert np.abs(run_file(file, batch) - run_network(model, batch)).max() < 1


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    model = tiny_model("bert")
    edits.quantize_int8(model)
    for settings in (ExportConfig(precision="int4"), ExportConfig(embeddings="int4")):
        with pytest.raises(ConfigError, match="holds int8 weights"):
            export_onnx(model, tmp_path / "out", settings)
    assert not (tmp_path / "out").exists()

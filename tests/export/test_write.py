"""What an export leaves on disk, what it says about itself, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import onnx
import pytest
import torch
from transformers import AutoConfig, AutoTokenizer

from compressbert import __version__
from compressbert.config.schema import ExportConfig
from compressbert.errors import ConfigError, WorkError
from compressbert.export import parity, write
from compressbert.export.graph import OLDEST_ONNXRUNTIME, GraphBuilder, every_node
from compressbert.export.write import build, export_onnx
from compressbert.measure.size import onnx_facts
from compressbert.model import edits
from tests.export.stand import run_file, run_network, tiny_model, uneven_model
from tests.tiny import FAMILIES, padded_batch


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("family", FAMILIES)
def test_two_exports_are_byte_equal(family: str, tmp_path: Path) -> None:
    settings = ExportConfig(precision="both")
    export_onnx(uneven_model(family), tmp_path / "one", settings)
    export_onnx(uneven_model(family), tmp_path / "two", settings)
    one = contents(tmp_path / "one")
    assert {"onnx/model.onnx", "onnx/model_quantized.onnx", "config.json", "tokenizer.json"} <= set(one)
    assert one == contents(tmp_path / "two")


def test_the_folder_is_what_loaders_look_for(tmp_path: Path) -> None:
    model = uneven_model("bert")
    model.network.config.auto_map = {"AutoModel": "modeling_compressbert.Whatever"}
    model.tokenizer("the film was good", truncation=True, padding="max_length", max_length=5)
    export_onnx(model, tmp_path / "out", ExportConfig())
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert "auto_map" not in config
    assert AutoConfig.from_pretrained(tmp_path / "out").model_type == "bert"
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    text = "the film was good and the cast was dull"
    assert tokenizer(text)["input_ids"] == model.tokenizer(text)["input_ids"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]  # nothing beside it


def test_metadata_holds_labels_structure_and_lineage() -> None:
    model = uneven_model("bert", labels=3)
    names = {0: "bad", 1: "müde", 2: "good"}
    model.network.config.id2label, model.network.config.label2id = (
        names,
        {name: i for i, name in names.items()},
    )
    model.network.config.problem_type = "single_label_classification"
    model.history = [{"method": "prune/michel", "settings": {"keep": 0.75}, "parent_sha256": "ab"}]
    proto = build(model, ExportConfig(opset=18))
    found = {entry.key: entry.value for entry in proto.metadata_props}
    assert list(found) == sorted(found)
    assert json.loads(found["labels"]) == ["bad", "müde", "good"]
    assert json.loads(found["lineage"]) == model.history
    assert json.loads(found["layers"]) == [
        {"heads": 2, "ffn": 10}, {"heads": 3, "ffn": 64}, {"heads": 4, "ffn": 37},
    ]  # fmt: skip
    assert found["precision"] == "fp32"
    assert found["problem_type"] == "single_label_classification"
    assert found["oldest_onnxruntime"] == "1.14"
    assert (proto.producer_name, proto.producer_version) == ("compressbert", __version__)


@pytest.mark.parametrize("head", ["classification", "tokens"])
def test_labels_without_names_are_written_too(head: str, tmp_path: Path) -> None:
    """transformers leaves them out of a config, and transformers.js looks for them."""
    export_onnx(tiny_model(head=head), tmp_path / "out", ExportConfig())
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["id2label"] == {"0": "LABEL_0", "1": "LABEL_1"}
    assert config["label2id"] == {"LABEL_0": 0, "LABEL_1": 1}


def test_masked_lm_has_no_labels() -> None:
    proto = build(tiny_model("bert", head="masked-lm"), ExportConfig())
    assert "labels" not in {entry.key for entry in proto.metadata_props}


@pytest.mark.parametrize("opset", sorted(OLDEST_ONNXRUNTIME))
def test_every_operator_set_opens_and_answers_alike(opset: int, tmp_path: Path) -> None:
    model = uneven_model("roberta")
    file = export_onnx(model, tmp_path / "out", ExportConfig(opset=opset, precision="int8")).files["int8"]
    proto = onnx.load(str(file))
    imported = {"": opset, "com.microsoft": 1, "compressbert": 1}  # the last is of its own functions
    assert {entry.domain: entry.version for entry in proto.opset_import} == imported
    assert proto.ir_version == {17: 8, 18: 8, 19: 9, 20: 9, 21: 10}[opset]
    assert run_file(file, padded_batch("roberta")).shape == (3, 2)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_graph_is_valid_and_whole(precision: str, tmp_path: Path) -> None:
    file = export_onnx(uneven_model("electra"), tmp_path / "out", ExportConfig(precision=precision)).files[
        precision
    ]
    proto = onnx.load(str(file), load_external_data=False)
    onnx.checker.check_model(proto, full_check=False)
    assert not any(tensor.external_data for tensor in proto.graph.initializer)
    axes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.input, *proto.graph.output)
    }
    both = ["batch", "sequence"]
    assert axes == {"input_ids": both, "attention_mask": both, "token_type_ids": both, "logits": ["batch", 2]}
    assert {value.type.tensor_type.elem_type for value in proto.graph.input} == {onnx.TensorProto.INT64}
    names = [node.name for node in every_node(proto.graph)]
    assert len(set(names)) == len(names)
    used = {name for node in every_node(proto.graph) for name in node.input}
    assert {tensor.name for tensor in proto.graph.initializer} <= used  # nothing is carried along


def test_initializer_names_say_what_they_belong_to(tmp_path: Path) -> None:
    model = tiny_model("bert")
    file = export_onnx(model, tmp_path / "out", ExportConfig()).files["fp32"]
    sizes = onnx_facts(file).bytes_by_component
    layer = 4 * (32 * 32 + 32)
    assert sizes["attention"] == 4 * 2 * (layer + 2 * 32)
    assert sizes["ffn"] == 4 * 2 * (32 * 64 + 64 + 64 * 32 + 32 + 2 * 32)
    assert sizes["head"] == 4 * (32 * 32 + 32 + 32 * 2 + 2)


def test_int8_weights_are_stored_as_int8(tmp_path: Path) -> None:
    model = tiny_model("bert", hidden=128, ffn=512, heads=4)
    facts = export_onnx(model, tmp_path / "out", ExportConfig(precision="both"))
    fp32, int8 = (facts.files[name].stat().st_size for name in ("fp32", "int8"))
    assert int8 < 0.32 * fp32
    kinds = {
        tensor.name: tensor.data_type for tensor in onnx.load(str(facts.files["int8"])).graph.initializer
    }
    products = [
        name for name in kinds if name.endswith(("query.weight", "dense.weight", "word_embeddings.weight"))
    ]
    assert len(products) == 2 * 4 + 2
    assert {kinds[name] for name in products} == {onnx.TensorProto.INT8}


def test_products_of_one_input_share_its_quantization() -> None:
    model = tiny_model("bert", layers=3)
    edits.quantize_int8(model)
    operators = [node.op_type for node in every_node(build(model, ExportConfig()).graph)]
    # Per layer: its input, the context, the FFN's input, its inner value. Then the first tokens, the pooler.
    assert operators.count("DynamicQuantizeLinear") == 3 * 4 + 1 + 1
    assert operators.count("MatMulIntegerToFloat") == 3 * 6 + 1


def test_the_model_is_left_as_it_is(tmp_path: Path) -> None:
    model = uneven_model("bert")
    before, batch = list(model.edits), padded_batch("bert")
    expected = run_network(model, batch)
    model.network.train()
    export_onnx(model, tmp_path / "out", ExportConfig(precision="both"))
    assert model.network.training
    assert not model.is_int8
    assert model.edits == before
    model.network.eval()
    assert (run_network(model, batch) == expected).all()


def test_precision_follows_the_model_unless_told(tmp_path: Path) -> None:
    model = tiny_model("distilbert")
    assert set(export_onnx(model, tmp_path / "a", ExportConfig()).files) == {"fp32"}
    assert set(export_onnx(model, tmp_path / "b", ExportConfig(precision="int8")).files) == {"int8"}
    edits.quantize_int8(model)
    assert set(export_onnx(model, tmp_path / "c", ExportConfig()).files) == {"int8"}
    for precision in ("fp32", "both"):
        with pytest.raises(ConfigError, match="int8"):
            export_onnx(model, tmp_path / "d", ExportConfig(precision=precision))
    assert not (tmp_path / "d").exists()


def test_quantizing_on_the_way_equals_quantizing_before(tmp_path: Path) -> None:
    model = tiny_model("bert")
    export_onnx(model, tmp_path / "on the way", ExportConfig(precision="int8"))
    edits.quantize_int8(model)
    export_onnx(model, tmp_path / "before", ExportConfig())
    file = "onnx/model_quantized.onnx"
    assert (tmp_path / "on the way" / file).read_bytes() == (tmp_path / "before" / file).read_bytes()


def test_a_failed_check_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "FP32_LIMIT", 0.0)
    with pytest.raises(WorkError, match="Nothing was kept"):
        export_onnx(tiny_model("bert"), tmp_path / "out", ExportConfig())
    assert list(tmp_path.iterdir()) == []


def test_a_failed_second_file_does_not_leave_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(parity, "ROW_LIMIT", -1.0)
    with pytest.raises(WorkError):
        export_onnx(tiny_model("bert"), tmp_path / "out", ExportConfig(precision="both"))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_onnxruntime_refuses_is_a_work_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = write.build

    def broken(*arguments: Any) -> onnx.ModelProto:
        proto = original(*arguments)
        proto.graph.node[3].op_type = "NoSuchOperator"
        return proto

    monkeypatch.setattr(write, "build", broken)
    with pytest.raises(WorkError, match="NoSuchOperator"):
        export_onnx(tiny_model("bert"), tmp_path / "out", ExportConfig())


def test_weights_in_half_precision_are_exported_as_fp32(tmp_path: Path) -> None:
    model = tiny_model("bert")
    model.network.bfloat16()
    proto = build(model, ExportConfig())
    kinds = {tensor.data_type for tensor in proto.graph.initializer}
    assert kinds == {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}


class TestGraphBuilder:
    def test_a_shared_tensor_is_stored_once_and_equal_ones_are_not_merged(self) -> None:
        graph = GraphBuilder()
        tensor = torch.arange(6.0).reshape(2, 3)
        assert graph.weight(tensor, "first") == graph.weight(tensor, "second") == "first"
        assert graph.weight(tensor.clone(), "third") == "third"
        assert graph.weight(tensor.t(), "fourth") == "fourth"  # the same memory, read differently

    def test_a_name_used_twice_is_refused(self) -> None:
        graph = GraphBuilder()
        graph.node("Identity", ["x"], "y")
        with pytest.raises(ValueError, match="called y"):
            graph.node("Identity", ["x"], "y")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_weights_beyond_one_file_go_to_a_sidecar(
    precision: Literal["fp32", "int8"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, batch = ExportConfig(precision=precision), padded_batch("bert")
    whole = export_onnx(tiny_model("bert"), tmp_path / "whole", settings).files[precision]
    monkeypatch.setattr("compressbert.export.save.MAX_BYTES", 1000)
    file = export_onnx(tiny_model("bert"), tmp_path / "split", settings).files[precision]
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name, f"{file.name}_data"]
    assert (run_file(file, batch) == run_file(whole, batch)).all()
    sidecar = file.with_name(f"{file.name}_data")
    assert whole.stat().st_size - file.stat().st_size > 0.9 * sidecar.stat().st_size
    (tmp_path / "split").rename(tmp_path / "moved")
    moved = tmp_path / "moved" / "onnx" / file.name
    assert (run_file(moved, batch) == run_file(whole, batch)).all()
    facts = onnx_facts(moved)
    assert facts.bytes_on_disk == sum(path.stat().st_size for path in moved.parent.iterdir())
    export_onnx(tiny_model("bert"), tmp_path / "again", settings)
    assert contents(tmp_path / "moved") == contents(tmp_path / "again")

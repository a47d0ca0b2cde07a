"""The parity check refuses every wrong graph and no right one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from compressbert import load
from compressbert.config.schema import ExportConfig
from compressbert.errors import WorkError
from compressbert.export.graph import every_node
from compressbert.export.parity import check
from compressbert.export.write import build
from compressbert.model import edits
from compressbert.model.handle import Model
from tests.export.stand import tiny_model, uneven_model
from tests.tiny import FAMILIES

Mutation = Callable[[ModelProto], None]


def initializer(model: ModelProto, end: str) -> TensorProto:
    (found,) = [tensor for tensor in model.graph.initializer if tensor.name.endswith(end)]
    return found


def change(end: str, how: Callable[[np.ndarray], np.ndarray]) -> Mutation:
    def mutate(model: ModelProto) -> None:
        tensor = initializer(model, end)
        values = numpy_helper.to_array(tensor)
        tensor.raw_data = np.ascontiguousarray(how(values).astype(values.dtype)).tobytes()

    return mutate


def swap(one: str, other: str) -> Mutation:
    def mutate(model: ModelProto) -> None:
        first, second = initializer(model, one), initializer(model, other)
        first.raw_data, second.raw_data = second.raw_data, first.raw_data

    return mutate


def rewire(value: str, position: int, source: str) -> Mutation:
    def mutate(model: ModelProto) -> None:
        (node,) = [node for node in every_node(model.graph) if node.output[0] == value]
        node.input[position] = source

    return mutate


def others_read(layer: int) -> Mutation:
    """Every text reads the keys of those before it."""
    return rewire(f"layers.{layer}.attention.padded.k_of_text", 1, "shape.0")


def attribute(value: str, name: str, content: object) -> Mutation:
    def mutate(model: ModelProto) -> None:
        (node,) = [node for node in every_node(model.graph) if node.output[0] == value]
        kept = [entry for entry in node.attribute if entry.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, content)])

    return mutate


def operator(value: str, name: str) -> Mutation:
    def mutate(model: ModelProto) -> None:
        (node,) = [node for node in every_node(model.graph) if node.output[0] == value]
        node.op_type = name

    return mutate


BIASES = ("layer.0.attention.self.value.bias", "layer.0.attention.output.dense.bias")
COMMON: dict[str, Mutation] = {
    "value and output biases swapped": swap(*BIASES),
    "output biases of two layers swapped": swap("layer.0.output.dense.bias", "layer.1.output.dense.bias"),
    "query and key weights swapped": swap(
        "layer.1.attention.self.query.weight", "layer.1.attention.self.key.weight"
    ),
    "query bias missing": change("layer.1.attention.self.query.bias", np.zeros_like),
    "square weight transposed": change("layer.0.attention.output.dense.weight", np.transpose),
    "heads in the wrong order": attribute("layers.0.attention.padded.context_tokens", "perm", [2, 0, 3, 1]),
    "heads of full batches in the wrong order": attribute(
        "layers.0.attention.full.context_tokens", "perm", [2, 0, 3, 1]
    ),
    "texts of full batches in the wrong order": attribute(
        "layers.0.attention.full.context_tokens", "perm", [0, 2, 1, 3]
    ),
    "the next text's first token asks": rewire(
        "layers.1.attention.padded.q_of_text", 1, "layers.1.attention.padded.next"
    ),
    "first tokens from where texts end": rewire("layers.1.first_token", 1, "packing.ends"),
    "positions counted over the batch": rewire("embeddings.packed.positions", 1, "batch_size"),
    "padding is never seen": operator("packing.smallest", "ReduceMax"),
    "texts read others in the first layer": others_read(0),
    "texts read others in the last layer": others_read(1),
    "residual from the wrong place": rewire("layers.1.attended.sum", 1, "layers.1.attention_out"),
    "norms swapped": swap("layer.0.attention.output.LayerNorm.weight", "layer.0.output.LayerNorm.weight"),
    "norm with another epsilon": attribute("layers.0.output", "epsilon", 1e-2),
    "positions one too far": change("position_embeddings.weight", lambda rows: np.roll(rows, 1, axis=0)),
    "last position wrong": change(
        "position_embeddings.weight", lambda rows: np.vstack([rows[:-1], rows[:1]])
    ),
    "token types ignored": change("token_type_embeddings.weight", lambda rows: rows[[0, 0]]),
    "token types swapped": change("token_type_embeddings.weight", lambda rows: rows[::-1]),
    "one word wrong": change(
        "word_embeddings.weight", lambda rows: np.vstack([rows[:7], rows[8:9], rows[8:]])
    ),
    "labels swapped": change("classifier.weight", lambda rows: rows[::-1]),
    "pooler bias missing": change("pooler.dense.bias", np.zeros_like),
    "not finite": change("pooler.dense.bias", lambda bias: bias * np.nan),
}
FP32 = COMMON | {
    "hidden first tokens are read": rewire("layers.0.attention.padded.key_start", 0, "packing.starts"),
    "approximate gelu": operator("layers.1.ffn", "FastGelu"),
    "scaling missing": change("layer.0.attention.self.query.weight", lambda weight: weight * np.sqrt(8)),
}
INT8 = COMMON | {
    "scaling missing": change("layer.0.attention.self.query.scale", lambda scale: scale * np.sqrt(8)),
    "scales of one product missing": change("layer.1.intermediate.dense.scale", np.ones_like),
    "scales in the wrong order": change("layer.0.output.dense.scale", lambda scale: scale[::-1]),
    "row scales in the wrong order": change("word_embeddings.scale", lambda scale: scale[::-1]),
    "one zero point missing": rewire("layers.1.value", 4, ""),
    "another layer's quantized input": rewire("layers.1.value", 0, "embeddings.output.uint8"),
}


def mutated(model: Model, mutation: Mutation, folder: Path) -> Path:
    proto = build(model, ExportConfig())
    mutation(proto)
    onnx.save(proto, str(folder / "wrong.onnx"))
    return folder / "wrong.onnx"


@pytest.fixture(scope="module")
def fp32() -> Model:
    return tiny_model("bert")


@pytest.fixture(scope="module")
def int8() -> Model:
    model = tiny_model("bert")
    edits.quantize_int8(model)
    return model


@pytest.mark.parametrize("name", FP32)
def test_wrong_fp32_graph_is_refused(name: str, fp32: Model, tmp_path: Path) -> None:
    with pytest.raises(WorkError):
        check(fp32, mutated(fp32, FP32[name], tmp_path))


@pytest.mark.parametrize("name", INT8)
def test_wrong_int8_graph_is_refused(name: str, int8: Model, tmp_path: Path) -> None:
    with pytest.raises(WorkError):
        check(int8, mutated(int8, INT8[name], tmp_path))


def test_the_message_names_the_layer(int8: Model, tmp_path: Path) -> None:
    with pytest.raises(WorkError, match=r"at layers\.1\.output"):
        check(int8, mutated(int8, INT8["scales of one product missing"], tmp_path))


def test_a_key_bias_has_no_effect_and_is_no_mistake(fp32: Model, tmp_path: Path) -> None:
    """It adds the same to every score of a query, which softmax ignores: a difference nobody can see."""
    found = check(fp32, mutated(fp32, change("layer.0.attention.self.key.bias", np.zeros_like), tmp_path))
    assert found.max_abs_difference < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_right_int8_graphs_pass_whatever_the_weights(family: str, tmp_path: Path) -> None:
    for seed in range(4):
        model = uneven_model(family, seed=seed)
        edits.quantize_int8(model)
        onnx.save(build(model, ExportConfig(optimize=seed % 2 == 0)), str(tmp_path / "right.onnx"))
        parity = check(model, tmp_path / "right.onnx")
        assert parity.shapes[:3] == ((3, 16), (8, 24), (2, 10))
        assert parity.block_difference is not None
        assert parity.block_difference < 0.1


# One wrong word of 30,522 is seen only if the probes draw it; the last layer has another number.
NOT_IN_REAL = ("one word wrong", "first tokens from where texts end")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*(name for name in INT8 if name not in NOT_IN_REAL), "approximate gelu"])
def test_wrong_int8_graph_of_a_real_model_is_refused(name: str, real_models: Path, tmp_path: Path) -> None:
    """Here a query bias is a small part of a score; an approximate gelu moves few of 1536 neurons a step."""
    model = load(real_models / "minilm-sst2")
    edits.quantize_int8(model)
    with pytest.raises(WorkError):
        check(model, mutated(model, (FP32 | INT8)[name], tmp_path))

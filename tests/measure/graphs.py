"""Tiny ONNX files for tests of runners and timing, with no dependence on the exporter."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

VOCABULARY, WIDTH = 50, 48


def write_graph(
    file: Path, *, products: int = 1, inputs: tuple[str, ...] = ("input_ids",), labels: int = 2
) -> Path:
    """logits = mean over tokens of (embedding · W^products) · V; other inputs enter with weight 0."""
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(VOCABULARY, WIDTH)).astype(np.float32)
    square = (np.linalg.qr(generator.normal(size=(WIDTH, WIDTH)))[0]).astype(np.float32)
    head = generator.normal(size=(WIDTH, labels)).astype(np.float32)
    nodes = [helper.make_node("Gather", ["bert.embeddings.word_embeddings.weight", "input_ids"], ["x0"])]
    for number in range(products):
        nodes.append(
            helper.make_node(
                "MatMul", [f"x{number}", "bert.encoder.layer.0.intermediate.dense.weight"], [f"x{number + 1}"]
            )
        )
    nodes.append(helper.make_node("ReduceMean", [f"x{products}"], ["pooled"], axes=[1], keepdims=0))
    last = "pooled"
    for name in inputs[1:]:
        nodes.append(helper.make_node("Cast", [name], [f"{name}.f"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("ReduceMean", [f"{name}.f"], [f"{name}.m"], axes=[1], keepdims=1))
        nodes.append(helper.make_node("Mul", [f"{name}.m", "zero"], [f"{name}.z"]))
        nodes.append(helper.make_node("Add", [last, f"{name}.z"], [f"after.{name}"]))
        last = f"after.{name}"
    nodes.append(helper.make_node("MatMul", [last, "classifier.weight"], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in inputs],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", labels])],
        [
            numpy_helper.from_array(embeddings, "bert.embeddings.word_embeddings.weight"),
            numpy_helper.from_array(square, "bert.encoder.layer.0.intermediate.dense.weight"),
            numpy_helper.from_array(head, "classifier.weight"),
            numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
        ],
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file)
    return file


def write_config(folder: Path, *, max_length: int = 64, model_type: str = "bert", pad_id: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "vocab_size": VOCABULARY,
        "max_position_embeddings": max_length,
        "model_type": model_type,
        "pad_token_id": pad_id,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def export_folder(folder: Path, *, products: int = 1, **options: int) -> Path:
    """A folder as `export` leaves it: config at the root, the graph under onnx/."""
    write_config(folder, **options)
    write_graph(folder / "onnx" / "model.onnx", products=products)
    return folder

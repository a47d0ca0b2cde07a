"""Every family, precision and head: the file answers as PyTorch does, on padded batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import AutoModel

from compressbert.config.schema import ExportConfig
from compressbert.export import blocks
from compressbert.export.encoder import input_names
from compressbert.export.write import build, export_onnx
from compressbert.model import edits
from compressbert.model.handle import Model
from compressbert.nn.int8 import Int8Embedding
from tests.export.stand import run_file, run_network, tiny_model, uneven_model
from tests.tiny import FAMILIES, padded_batch, tiny_tokenizer

PLAIN = ExportConfig(optimize=False)
LIMIT = {
    "fp32": 1e-5,
    "int8": 0.02,
}  # one rounding step moves all that follows; test_parity.py is strict about int8


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_fp32_file_equals_pytorch(family: str, optimize: bool, tmp_path: Path) -> None:
    model = uneven_model(family)
    facts = export_onnx(model, tmp_path / "out", ExportConfig(optimize=optimize))
    assert facts.route == "direct"
    assert facts.files == {"fp32": tmp_path / "out/onnx/model.onnx"}
    for seed, lengths in enumerate([(9, 5, 2), (1,), (64, 33), (4, 4)]):
        batch = padded_batch(family, lengths=lengths, seed=seed)
        found = run_file(facts.files["fp32"], batch)
        assert np.abs(found - run_network(model, batch)).max() < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_int8_file_equals_pytorch_int8_modules(family: str, tmp_path: Path) -> None:
    model = uneven_model(family)
    original = run_network(model, padded_batch(family))
    edits.quantize_int8(model)
    facts = export_onnx(model, tmp_path / "out", PLAIN)
    assert facts.files == {"int8": tmp_path / "out/onnx/model_quantized.onnx"}
    quantization = []
    for seed in range(4):
        batch = padded_batch(family, seed=seed, lengths=(14, 9, 3, 1))
        windows = family == "modernbert"  # whose files never compute padding
        with blocks.real_tokens_only(model, batch["attention_mask"], enabled=windows):
            found, expected = run_file(facts.files["int8"], batch), run_network(model, batch)
        quantization.append(np.abs(found - expected).max())
    moved = np.abs(run_network(model, padded_batch(family)) - original).max()
    assert moved > 1e-3  # the int8 model is not the fp32 one
    assert np.median(quantization) < 1e-5  # a rounding step may separate single batches
    assert max(quantization) < 0.5


@pytest.mark.parametrize("family", FAMILIES)
def test_first_token_only_int8_equals_a_last_layer_cut_alike(family: str, tmp_path: Path) -> None:
    model = uneven_model(family)
    edits.quantize_int8(model)
    facts = export_onnx(model, tmp_path / "out", ExportConfig())
    differences = []
    for seed in range(4):
        batch = padded_batch(family, seed=seed)
        with blocks._layers(model, short=True), blocks.real_tokens_only(model, batch["attention_mask"]):
            expected = run_network(model, batch)
        differences.append(np.abs(run_file(facts.files["int8"], batch) - expected).max())
    assert np.median(differences) < 1e-5
    assert max(differences) < 0.5


@pytest.mark.parametrize("family", FAMILIES)
def test_cut_layer_equals_the_first_row_of_the_whole_one(family: str) -> None:
    model = uneven_model(family)
    batch = padded_batch(family)
    whole = run_network(model, batch)
    with blocks._layers(model, short=True):
        cut = run_network(model, batch)
    assert np.abs(whole - cut).max() < 1e-5
    assert np.array_equal(whole, run_network(model, batch))  # the layer was put back


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_masked_lm(family: str, precision: str, tmp_path: Path) -> None:
    model = uneven_model(family, head="masked-lm")
    if precision == "int8":
        edits.quantize_int8(model)
    facts = export_onnx(model, tmp_path / "out", ExportConfig())
    batch = padded_batch(family)
    found, expected = run_file(facts.files[precision], batch), run_network(model, batch)
    assert found.shape == expected.shape == (*batch["input_ids"].shape, model.network.config.vocab_size)
    assert np.median(np.abs(found - expected)[batch["attention_mask"] == 1]) < LIMIT[precision]


def test_tied_tables_are_stored_once() -> None:
    model = tiny_model("bert", head="masked-lm")
    shape = [model.network.config.vocab_size, 32]
    initializers = build(model, ExportConfig()).graph.initializer
    tables = [tensor.name for tensor in initializers if list(tensor.dims) in (shape, shape[::-1])]
    assert tables == ["bert.embeddings.word_embeddings.weight"]


@pytest.mark.parametrize(("labels", "problem"), [(1, "regression"), (5, "multi_label_classification")])
def test_regression_and_multi_label_give_plain_logits(labels: int, problem: str, tmp_path: Path) -> None:
    model = tiny_model("roberta", labels=labels)
    model.network.config.problem_type = problem
    facts = export_onnx(model, tmp_path / "out", ExportConfig())
    batch = padded_batch("roberta")
    found = run_file(facts.files["fp32"], batch)
    assert found.shape == (3, labels)
    assert np.abs(found - run_network(model, batch)).max() < 1e-5


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_bare_encoder_gives_hidden_states(family: str, precision: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = AutoModel.from_config(tiny_model(family).network.config).eval()
    model = Model(network, tiny_tokenizer(family), network.config.to_dict())
    if precision == "int8":
        edits.quantize_int8(model)
    facts = export_onnx(model, tmp_path / "out", ExportConfig())
    batch = padded_batch(family)
    found, expected = run_file(facts.files[precision], batch), run_network(model, batch)
    assert found.shape == expected.shape == (3, 9, 32)
    assert np.median(np.abs(found - expected)[batch["attention_mask"] == 1]) < LIMIT[precision]


@pytest.mark.parametrize("family", FAMILIES)
def test_narrower_hidden_width(family: str, tmp_path: Path) -> None:
    model = tiny_model(family)
    edits.keep_hidden(model, [*range(0, 32, 2), 1, 3, 5] if family != "electra" else range(20))
    facts = export_onnx(model, tmp_path / "out", ExportConfig(precision="both"))
    batch = padded_batch(family)
    assert np.abs(run_file(facts.files["fp32"], batch) - run_network(model, batch)).max() < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_single_layer_and_single_head(family: str, tmp_path: Path) -> None:
    model = tiny_model(family)
    edits.keep_layers(model, [0 if family == "modernbert" else 1])
    edits.keep_heads(model, {0: [2]})
    facts = export_onnx(model, tmp_path / "out", ExportConfig(precision="both"))
    batch = padded_batch(family)
    assert np.abs(run_file(facts.files["fp32"], batch) - run_network(model, batch)).max() < 1e-5


@pytest.mark.parametrize("activation", ["gelu_new", "relu", "silu", "quick_gelu", "gelu_pytorch_tanh"])
def test_other_activations(activation: str, tmp_path: Path) -> None:
    model = tiny_model("bert", hidden_act=activation)
    facts = export_onnx(model, tmp_path / "out", ExportConfig())
    assert facts.route == "direct"
    batch = padded_batch("bert")
    assert np.abs(run_file(facts.files["fp32"], batch) - run_network(model, batch)).max() < 1e-5


def test_token_types_are_an_input_only_where_they_mean_something() -> None:
    assert input_names(tiny_model("bert")) == ("input_ids", "attention_mask", "token_type_ids")
    for family in ("roberta", "distilbert"):
        assert input_names(tiny_model(family)) == ("input_ids", "attention_mask")
    single = tiny_model("bert")
    single.tokenizer.model_input_names = ["input_ids", "attention_mask"]
    assert input_names(single) == ("input_ids", "attention_mask")


@pytest.mark.parametrize("tables", [(), ("position",), ("token_type",), ("position", "token_type")])
def test_type_zero_is_added_where_types_are_no_input(tables: tuple[str, ...], tmp_path: Path) -> None:
    """Folded into the position table if both are fp32, a term of its own if one is int8."""
    model = tiny_model("bert")
    model.tokenizer.model_input_names = ["input_ids", "attention_mask"]
    if tables:
        edits.quantize_int8(model, modules=[f"bert.embeddings.{name}_embeddings" for name in tables])
        assert isinstance(
            model.network.get_submodule(f"bert.embeddings.{tables[0]}_embeddings"), Int8Embedding
        )
    facts = export_onnx(model, tmp_path / "out", ExportConfig())
    batch = padded_batch("bert")
    del batch["token_type_ids"]
    (file,) = facts.files.values()
    assert np.abs(run_file(file, batch) - run_network(model, batch)).max() < 1e-5
    stored = {tensor.name for tensor in onnx.load(str(file)).graph.initializer}
    assert ("bert.embeddings.token_type_embeddings.weight" in stored) == bool(tables)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_any_mask_is_honoured(family: str, tmp_path: Path) -> None:
    """Left padding, holes, and padding whose tokens are not the padding token."""
    model = tiny_model(family)
    file = export_onnx(model, tmp_path / "out", ExportConfig()).files["fp32"]
    batch = padded_batch(family, lengths=(10, 10, 10))
    batch["attention_mask"][0, :4] = 0
    batch["attention_mask"][1, 3:6] = 0
    batch["attention_mask"][2, 7:] = 0
    assert np.abs(run_file(file, batch) - run_network(model, batch)).max() < 1e-5
    changed = {name: values.clone() for name, values in batch.items()}
    changed["input_ids"][2, 7:] = 6
    assert np.abs(run_file(file, batch)[2] - run_file(file, changed)[2]).max() < 1e-5

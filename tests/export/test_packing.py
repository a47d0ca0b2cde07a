"""Packed tokens: only real ones are computed, and no mask and no padding changes what a text gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from compressbert.config.schema import ExportConfig
from compressbert.export import blocks
from compressbert.export.encoder import EMBEDDED, layer_output
from compressbert.export.groups import ungrouped
from compressbert.export.write import build
from compressbert.model import edits
from compressbert.model.handle import Model
from tests.export.stand import run_file, run_network, tiny_model, uneven_model
from tests.tiny import FAMILIES, padded_batch

Batch = dict[str, torch.Tensor]


def masked(family: str, name: str) -> Batch:
    """Four texts of ten tokens whose mask hides some: at the end, at the start, in the middle, all but one."""
    batch = padded_batch(family, lengths=(10, 10, 10, 10))
    mask = batch["attention_mask"]
    if name in ("right", "mixed"):
        mask[1, 6:] = 0
        mask[2, 1:] = 0
    if name in ("left", "mixed"):
        mask[0, :4] = 0
    if name in ("scattered", "mixed"):
        mask[3, [0, 2, 3, 7]] = 0
        mask[1, 2] = 0
    return batch


def saved(model: Model, folder: Path, **settings: bool) -> Path:
    onnx.save(build(model, ExportConfig(**settings)), str(folder / "model.onnx"))
    return folder / "model.onnx"


def inside(file: Path, batch: Batch, *values: str) -> list[NDArray[np.float32]]:
    """Values from inside a file."""
    proto = ungrouped(onnx.load(str(file)))
    proto.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in values)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(list(values), {node.name: batch[node.name].numpy() for node in session.get_inputs()})


@pytest.mark.parametrize("mask", ["right", "left", "scattered", "mixed"])
@pytest.mark.parametrize("head", ["classification", "masked-lm"])
@pytest.mark.parametrize("family", FAMILIES)
def test_fp32_equals_pytorch_under_any_mask(family: str, head: str, mask: str, tmp_path: Path) -> None:
    model, batch = uneven_model(family, head=head), masked(family, mask)
    found, expected = run_file(saved(model, tmp_path), batch), run_network(model, batch)
    if head == "masked-lm":
        real = batch["attention_mask"].numpy() == 1
        found, expected = found[real], expected[real]
    assert np.abs(found - expected).max() < 2e-5


@pytest.mark.parametrize("mask", ["right", "left", "scattered", "mixed"])
@pytest.mark.parametrize("family", FAMILIES)
def test_int8_equals_pytorch_that_quantizes_over_real_tokens(family: str, mask: str, tmp_path: Path) -> None:
    differences = []
    for seed in range(5):
        model, batch = uneven_model(family, seed=seed), masked(family, mask)
        edits.quantize_int8(model)
        with blocks._layers(model, short=True), blocks.real_tokens_only(model, batch["attention_mask"]):
            expected = run_network(model, batch)
        differences.append(np.abs(run_file(saved(model, tmp_path), batch) - expected).max())
    assert sorted(differences)[1] < 1e-5  # a rounding step may separate some models, never all
    assert max(differences) < 0.5


@pytest.mark.parametrize("family", FAMILIES)
def test_only_real_tokens_and_first_positions_are_rows(family: str, tmp_path: Path) -> None:
    model, batch = uneven_model(family), masked(family, "mixed")
    values = [EMBEDDED, *(layer_output(layer) for layer in range(3))]
    rows = [value.shape for value in inside(saved(model, tmp_path), batch, *values)]
    kept = batch["attention_mask"].clone()
    kept[:, 0] = 1
    assert rows == [(int(kept.sum()), 32)] * 3 + [(4, 32)]
    unpacked = [value.shape for value in inside(saved(model, tmp_path, optimize=False), batch, *values)]
    if family == "modernbert":  # whose windows leave padding undefined, so that it is never computed
        assert unpacked == [(int(kept.sum()), 32)] * 4
        return
    assert unpacked == [(40, 32)] * 4


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_under_the_mask_changes_nothing(family: str, precision: str, tmp_path: Path) -> None:
    """Not even the range of int8 activations: the answers are equal to the last bit."""
    model, batch = uneven_model(family), masked(family, "right")
    if precision == "int8":
        edits.quantize_int8(model)
    file = saved(model, tmp_path)
    before = run_file(file, batch)
    hidden = batch["attention_mask"] == 0
    batch["input_ids"][hidden] = 7
    assert np.array_equal(run_file(file, batch), before)
    if "token_type_ids" in batch:
        batch["token_type_ids"][hidden] = 1
        assert np.array_equal(run_file(file, batch), before)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_longer_padding_changes_nothing(family: str, precision: str, tmp_path: Path) -> None:
    model = uneven_model(family)
    if precision == "int8":
        edits.quantize_int8(model)
    file = saved(model, tmp_path)
    batch = padded_batch(family, lengths=(9, 5, 2))
    before = run_file(file, batch)
    wider = {name: torch.nn.functional.pad(values, (0, 7)) for name, values in batch.items()}
    wider["input_ids"][:, 9:] = model.network.config.pad_token_id
    difference = np.abs(run_file(file, wider) - before).max()
    # Attention sums over more zeros in another order; in int8 that may turn into one rounding step.
    assert difference < (1e-5 if precision == "fp32" else 0.05)


def test_a_text_without_any_token_disturbs_nobody(tmp_path: Path) -> None:
    model, batch = tiny_model("bert"), masked("bert", "right")
    file = saved(model, tmp_path)
    before = run_file(file, batch)
    batch["attention_mask"][2] = 0
    after = run_file(file, batch)
    assert np.isfinite(after).all()
    assert np.abs(after[[0, 1, 3]] - before[[0, 1, 3]]).max() < 1e-5


def test_an_empty_batch_gives_an_empty_answer(tmp_path: Path) -> None:
    model = tiny_model("bert")
    empty = {name: values[:0] for name, values in padded_batch("bert").items()}
    assert run_file(saved(model, tmp_path), empty).shape == (0, 2)


def test_any_number_but_zero_marks_a_token(tmp_path: Path) -> None:
    model, batch = tiny_model("bert"), masked("bert", "right")
    file = saved(model, tmp_path)
    before = run_file(file, batch)
    batch["attention_mask"] *= 3
    assert np.array_equal(run_file(file, batch), before)

"""Ranges from texts: streamed exactly, clipped by percentile, written as constants; PyTorch computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from compressbert.config.schema import DataConfig, ExportConfig, ExportStepConfig, ModelSource
from compressbert.errors import ConfigError
from compressbert.export.calibration import RangeObserver, calibrate
from compressbert.export.graph import every_node
from compressbert.export.variants import Formats, int8_products
from compressbert.export.write import export_onnx
from compressbert.model import edits
from compressbert.model.handle import Model
from compressbert.nn.int8 import Int8Linear, grid, quantize_activations
from compressbert.pipeline.steps.export import export
from tests.export.stand import run_file, run_network, uneven_model
from tests.tiny import FAMILIES, padded_batch, save_tiny, toy_rows, write_rows

STATIC = ExportConfig(precision="int8", activations="static")


def texts(family: str = "bert", count: int = 8) -> list[dict[str, np.ndarray]]:
    batches = [padded_batch(family, lengths=(4 + seed,), seed=seed) for seed in range(count)]
    return [{name: tensor.numpy() for name, tensor in batch.items()} for batch in batches]


def formats(model: Model, family: str = "bert") -> Formats:
    return Formats(ranges=calibrate(model, int8_products(model), texts(family)))


def test_a_stream_gives_the_same_range_as_all_values_at_once() -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(7, 11, generator=generator) * size for size in (0, 0.01, 1, 30, 5, 200)]
    observer = RangeObserver()
    for part in parts:
        observer.update(part)
    whole = torch.cat([part.flatten() for part in parts])
    assert observer.range() == (whole.min().item(), whole.max().item())
    assert observer._counts.sum() == whole.numel()  # nothing is lost where bins merge


def test_a_percentile_leaves_outliers_out() -> None:
    values = torch.linspace(-1, 3, 10_001)
    observer = RangeObserver()
    observer.update(values)
    observer.update(torch.tensor([-500.0, 900.0]))
    assert observer.range() == (-500, 900)
    width = 2 * 2 * 900 / 4096  # the limit doubled from 3 to at least 900
    low, high = observer.range(99.0)
    assert low == pytest.approx(-1 + 0.02, abs=width)
    assert high == pytest.approx(3 - 0.02, abs=width)
    ones = RangeObserver()
    ones.update(torch.full((50,), 2.0))
    assert ones.range(99.0)[0] == 0  # zero stays inside
    assert ones.range(99.0)[1] == pytest.approx(2)


def test_values_beyond_a_fixed_grid_are_clipped() -> None:
    scale, zero_point = grid(torch.tensor(-1.0), torch.tensor(1.55))
    assert (scale.item(), zero_point.item()) == (pytest.approx(0.01), 100)
    q, _, _ = quantize_activations(torch.tensor([-9.0, -1.0, 0.0, 0.5, 9.0]), (scale, zero_point))
    assert (q.int() + 128).tolist() == [0, 0, 100, 150, 255]


@pytest.mark.parametrize("family", FAMILIES)
def test_static_files_agree_with_pytorch_and_hold_no_range_search(family: str, tmp_path: Path) -> None:
    model = uneven_model(family)
    chosen = formats(model, family)
    facts = export_onnx(model, tmp_path / "out", STATIC, formats=chosen)  # checked block by block
    operators = [node.op_type for node in every_node(onnx.load(str(facts.files["int8"])).graph)]
    assert "DynamicQuantizeLinear" not in operators
    assert operators.count("QuantizeLinear") >= 4 * 3
    again = export_onnx(model, tmp_path / "again", STATIC, formats=chosen)
    assert facts.files["int8"].read_bytes() == again.files["int8"].read_bytes()
    assert not any(isinstance(m, Int8Linear) for m in model.network.modules())


def test_a_text_is_answered_alike_whatever_its_batch_mates(tmp_path: Path) -> None:
    model = uneven_model("bert")
    batch = padded_batch("bert")
    alone = {name: values[1:2, :5] for name, values in batch.items()}
    differences = {}
    for kind in ("static", "dynamic"):
        settings = ExportConfig(precision="int8", activations=kind)  # type: ignore[arg-type]
        chosen = formats(model) if kind == "static" else None
        file = export_onnx(model, tmp_path / kind, settings, formats=chosen).files["int8"]
        differences[kind] = np.abs(run_file(file, batch)[1] - run_file(file, alone)[0]).max()
    assert differences["static"] < 1e-5 < differences["dynamic"]


def test_static_logits_stay_close_to_fp32(tmp_path: Path) -> None:
    model, batch = uneven_model("bert"), padded_batch("bert")
    file = export_onnx(model, tmp_path / "out", STATIC, formats=formats(model)).files["int8"]
    assert np.abs(run_file(file, batch) - run_network(model, batch)).max() < 0.2


def test_int8_models_are_calibrated_as_they_are(tmp_path: Path) -> None:
    model = uneven_model("bert")
    edits.quantize_int8(model)
    settings = ExportConfig(activations="static")
    facts = export_onnx(model, tmp_path / "out", settings, formats=formats(model))
    assert set(facts.files) == {"int8"}


def test_the_step_takes_ranges_from_training_rows(tmp_path: Path) -> None:
    rows = str(write_rows(tmp_path / "rows.jsonl", toy_rows(30)))
    source = ModelSource(path=str(save_tiny(tmp_path / "model")))
    out = str(tmp_path / "out")
    result = export(
        ExportStepConfig(model=source, export=STATIC, output=out),
        data=DataConfig(train=rows, labels=("0", "1")),
    )
    assert "onnx/model_quantized.onnx" in result.files
    with pytest.raises(ConfigError, match="training data"):
        export(ExportStepConfig(model=source, export=STATIC, output=str(tmp_path / "other")))
    settings = ExportConfig(activations="static", precision="fp32")
    with pytest.raises(ConfigError, match="none is to be written"):
        export(ExportStepConfig(model=source, export=settings, output=str(tmp_path / "fp32")))
    with pytest.raises(ConfigError, match="there are none"):
        export_onnx(uneven_model("bert"), tmp_path / "bare", STATIC)

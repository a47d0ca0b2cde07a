"""The ranking finds the module that int8 hurts, and the fall-back keeps the fewest that the limit needs."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

from compressbert.config.schema import DataConfig, ExportConfig, ExportStepConfig, ModelSource
from compressbert.errors import ConfigError
from compressbert.export.sensitivity import divergence, rank, worst_to_keep
from compressbert.model import edits
from compressbert.model.checkpoint import save
from compressbert.model.edits import default_int8_modules
from compressbert.model.handle import Model
from compressbert.pipeline.steps.export import export
from compressbert.results.record import ModuleSensitivity
from tests.export.stand import tiny_model
from tests.tiny import padded_batch, save_tiny, toy_rows, write_rows

FRAGILE = "bert.encoder.layer.1.output.dense"


def fragile_model() -> Model:
    """One weight of each row of one matrix is so large that int8 leaves nothing of the others."""
    model = tiny_model("bert")
    with torch.no_grad():
        weight = model.network.get_submodule(FRAGILE).weight
        weight[:, 0] = torch.where(torch.arange(len(weight)) % 2 == 0, 100.0, -100.0)
        model.network.get_submodule("bert.encoder.layer.1.intermediate.dense").weight[0].zero_()
        model.network.get_submodule("bert.encoder.layer.1.intermediate.dense").bias[0] = 0  # gelu(0) = 0
    return model


def batches() -> list[dict[str, torch.Tensor]]:
    return [{name: t.numpy() for name, t in padded_batch(seed=seed).items()} for seed in range(3)]


def test_the_ranking_names_the_module_that_int8_hurts_and_leaves_the_model_alone() -> None:
    model = fragile_model()
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    ranked = rank(model, batches())
    assert ranked[0].module == FRAGILE
    assert ranked[0].divergence > 10 * ranked[1].divergence
    assert {entry.module for entry in ranked} == set(default_int8_modules(model))
    assert all(entry.divergence >= 0 for entry in ranked)
    assert ranked[0].bytes_saved == 3 * 32 * 64 - 4 * 32
    after = model.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_divergence_by_hand() -> None:
    even, sure = torch.zeros(1, 2), torch.tensor([[0.0, torch.log(torch.tensor(3.0))]])  # 1/2 1/2, 1/4 3/4
    assert divergence(even, even) == 0
    assert divergence(even, sure) == pytest.approx(0.5 * torch.tensor(4 / 3).log().item())
    values = torch.tensor([[0.0], [2.0]])  # variance 2
    assert divergence(values, values + 1) == pytest.approx(0.5)


@pytest.mark.parametrize("needed", range(1, 11))
def test_the_fall_back_keeps_the_fewest(needed: int) -> None:
    ranked = [ModuleSensitivity(module=f"m{i}", divergence=10 - i, bytes_saved=1) for i in range(10)]
    asked: list[int] = []

    def drop(names: tuple[str, ...]) -> float:
        assert names == tuple(f"m{i}" for i in range(len(names)))
        asked.append(len(names))
        return 0.0 if len(names) >= needed else 0.1

    assert len(worst_to_keep(ranked, drop, 0.05)) == needed
    assert len(asked) <= 8


def test_an_export_falls_back_until_the_limit_holds_and_says_what_it_cost(tmp_path: Path) -> None:
    model, rows = fragile_model(), toy_rows(60)
    with (
        torch.no_grad()
    ):  # labels that the fp32 model gets right, half of each kind, so that int8 can only lose
        encoded = [model.tokenizer(row["sentence"], return_tensors="pt") for row in rows]
        margins = torch.cat([model(**text).logits.diff() for text in encoded]).flatten()
        model.network.classifier.bias[1] -= margins.median()
        for row, margin in zip(rows, margins - margins.median(), strict=True):
            row["label"] = int(margin > 0)
    save(model, tmp_path / "model")
    file = str(write_rows(tmp_path / "rows.jsonl", rows))
    data = DataConfig(train=file, validation=file, labels=("0", "1"))
    config = ExportStepConfig(
        model=ModelSource(path=str(tmp_path / "model")),
        export=ExportConfig(precision="int8", max_quality_drop=0.05, sensitivity=True),
        output=str(tmp_path / "out"),
    )
    result = export(config, data=data)
    found = result.sensitivity
    assert found is not None
    assert found.quality_kept == result.quality["accuracy"].value  # the file is what was judged
    assert found.quality_fp32 is not None
    assert found.quality_fp32 == pytest.approx(1, abs=0.02)  # the median itself may fall on either side
    assert found.quality_int8 is not None
    assert found.quality_int8 < found.quality_fp32 - 0.05
    assert found.quality_kept is not None
    assert found.quality_kept >= found.quality_fp32 - 0.05
    assert found.kept_fp32[0] == FRAGILE
    assert found.bytes_added == sum(e.bytes_saved for e in found.modules if e.module in found.kept_fp32)
    graph = onnx.load(str(tmp_path / "out/onnx/model_quantized.onnx")).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    stored = {entry.module: kinds[f"{entry.module}.weight"] for entry in found.modules}
    assert {name for name, kind in stored.items() if kind == onnx.TensorProto.FLOAT} == set(found.kept_fp32)


def test_where_int8_holds_already_nothing_is_ranked(tmp_path: Path) -> None:
    rows = str(write_rows(tmp_path / "rows.jsonl", toy_rows(30)))
    step = ExportStepConfig(
        model=ModelSource(path=str(save_tiny(tmp_path / "model"))),
        export=ExportConfig(precision="int8", max_quality_drop=1.0),
        output=str(tmp_path / "out"),
    )
    found = export(step, data=DataConfig(validation=rows)).sensitivity  # there are no training rows
    assert found is not None
    assert (found.rows, found.modules, found.kept_fp32) == (0, (), ())
    assert found.quality_kept == found.quality_int8


def test_without_fp32_weights_or_validation_rows_it_is_refused(tmp_path: Path) -> None:
    rows = str(write_rows(tmp_path / "rows.jsonl", toy_rows(10)))
    settings = ExportConfig(precision="int8", max_quality_drop=0.01)
    source = ModelSource(path=str(save_tiny(tmp_path / "model")))
    step = ExportStepConfig(model=source, export=settings, output=str(tmp_path / "out"))
    with pytest.raises(ConfigError, match="judged on validation rows"):
        export(step, data=DataConfig(train=rows, labels=("0", "1")))
    ranking = step.model_copy(update={"export": ExportConfig(precision="int8", sensitivity=True)})
    with pytest.raises(ConfigError, match="The ranking of modules takes its rows from training data"):
        export(ranking, data=DataConfig(validation=rows))
    int8 = tiny_model("bert")
    edits.quantize_int8(int8)
    save(int8, tmp_path / "int8")
    step = step.model_copy(update={"model": ModelSource(path=str(tmp_path / "int8"))})
    with pytest.raises(ConfigError, match="holds int8 ones"):
        export(step, data=DataConfig(train=rows, validation=rows, labels=("0", "1")))

"""The plain functions behind the commands: what they return, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification

from compressbert.config.schema import (
    BenchmarkConfig,
    CompressConfig,
    EvaluateConfig,
    ExportStepConfig,
    FinetuneConfig,
    ModelSource,
)
from compressbert.errors import ConfigError, InputError
from compressbert.pipeline.steps.benchmark import _named, benchmark
from compressbert.pipeline.steps.compress import compress
from compressbert.pipeline.steps.evaluate import evaluate
from compressbert.pipeline.steps.export import export
from compressbert.pipeline.steps.finetune import finetune
from compressbert.pipeline.steps.report import report
from tests.tiny import save_tiny, toy_rows, write_rows


@pytest.fixture
def place(tmp_path: Path) -> Path:
    save_tiny(tmp_path / "model")
    write_rows(tmp_path / "train.jsonl", toy_rows(64))
    write_rows(tmp_path / "validation.jsonl", toy_rows(40, seed=1))
    return tmp_path


def quantized(place: Path) -> Path:
    settings = CompressConfig.model_validate(
        {
            "model": {"path": str(place / "model")},
            "method": {"name": "dynamic_int8"},
            "output": str(place / "int8"),
        }
    )
    compress("quantize", settings)
    return place / "int8"


def evaluation(place: Path, model: str, **data: str) -> EvaluateConfig:
    section = {"validation": str(place / "validation.jsonl"), **data}
    return EvaluateConfig.model_validate({"model": {"path": str(place / model)}, "data": section})


def test_finetune_learns_and_its_folder_opens_in_stock_transformers(place: Path) -> None:
    before = evaluate(evaluation(place, "model")).quality["accuracy"].value
    settings = FinetuneConfig.model_validate(
        {
            "model": {"path": str(place / "model")},
            "data": {"train": str(place / "train.jsonl"), "validation": str(place / "validation.jsonl")},
            "train": {"epochs": 12, "batch_size": 16, "learning_rate": 2e-3},
            "output": str(place / "teacher"),
        }
    )
    result = finetune(settings)
    assert result.quality["accuracy"].value > max(before, 0.8)
    assert result.training[-1]["loss"] < result.training[0]["loss"]
    stock = AutoModelForSequenceClassification.from_pretrained(place / "teacher")
    assert stock.config.id2label == {0: "negative", 1: "positive"}


def test_finetune_gives_a_model_of_other_labels_a_new_head(place: Path) -> None:
    rows = [{**row, "label": ["sad", "glad", "calm"][index % 3]} for index, row in enumerate(toy_rows(30))]
    write_rows(place / "moods.jsonl", rows)
    settings = FinetuneConfig.model_validate(
        {
            "model": {"path": str(place / "model")},
            "data": {"train": str(place / "moods.jsonl")},
            "train": {"max_steps": 1},
            "output": str(place / "moods"),
        }
    )
    finetune(settings)
    stock = AutoModelForSequenceClassification.from_pretrained(place / "moods")
    assert stock.config.id2label == {0: "calm", 1: "glad", 2: "sad"}


def test_labels_by_name_are_mapped_and_other_names_refused(place: Path) -> None:
    names = ["negative", "positive"]
    rows = toy_rows(40, seed=1)
    write_rows(place / "named.jsonl", [{**row, "label": names[row["label"]]} for row in rows])
    by_id = evaluate(evaluation(place, "model")).quality["accuracy"].value
    by_name = (
        evaluate(evaluation(place, "model", validation=str(place / "named.jsonl"))).quality["accuracy"].value
    )
    assert by_id == by_name
    write_rows(place / "others.jsonl", [{**row, "label": ["bad", "good"][row["label"]]} for row in rows])
    with pytest.raises(InputError, match="negative"):
        evaluate(evaluation(place, "model", validation=str(place / "others.jsonl")))


def test_labels_in_another_order_are_refused_not_permuted(place: Path) -> None:
    settings = evaluation(place, "model")
    data = settings.data.model_copy(update={"labels": ("positive", "negative")})
    with pytest.raises(InputError, match="order"):
        evaluate(settings.model_copy(update={"data": data}))


def test_export_of_an_int8_model_scores_as_the_model_does(place: Path) -> None:
    int8 = quantized(place)
    result = export(
        ExportStepConfig.model_validate({"model": {"path": str(int8)}, "output": str(place / "onnx")})
    )
    assert result.model is not None
    assert result.model.bytes_on_disk == (place / "onnx" / "onnx" / "model_quantized.onnx").stat().st_size
    assert sum(result.model.bytes_by_component.values()) == result.model.bytes_on_disk
    in_torch = evaluate(evaluation(place, "int8")).quality["accuracy"].value
    in_onnx = evaluate(evaluation(place, "onnx")).quality["accuracy"].value
    assert abs(in_torch - in_onnx) <= 2 / 40  # rounding steps may flip a row


def test_nothing_is_left_when_a_step_fails(place: Path) -> None:
    settings = CompressConfig.model_validate(
        {
            "model": {"path": str(place / "model")},
            "method": {"name": "distilbert", "layers": 9},
            "data": {"train": str(place / "train.jsonl")},
            "output": str(place / "student"),
        }
    )
    before = sorted(place.iterdir())
    with pytest.raises(ConfigError, match="9 of 2"):
        compress("distill", settings)
    assert [path for path in sorted(place.iterdir()) if path.name != "cache"] == before


@pytest.mark.parametrize("method", ["distilbert", "pkd", "waldorf", "static_embedding"])
def test_a_student_that_a_method_would_not_read_is_refused(method: str, place: Path) -> None:
    settings = {
        "model": {"path": str(place / "model")},
        "student": {"path": "runs/half"},
        "method": {"name": method},
        "data": {"train": str(place / "train.jsonl")},
        "output": str(place / "student"),
    }
    with pytest.raises(ConfigError) as refused:
        compress("distill", CompressConfig.model_validate(settings))
    assert str(refused.value).startswith(
        f"{method} starts from `model` and would not read `student: runs/half`"
    )
    assert not (place / "student").exists()


def test_output_that_is_not_empty_is_refused_before_any_work(place: Path) -> None:
    quantized(place)
    with pytest.raises(ConfigError, match="not empty"):
        quantized(place)


def test_benchmark_compares_with_the_first_model(place: Path) -> None:
    for name, source in (("fp32", place / "model"), ("small", quantized(place))):
        settings = {"model": {"path": str(source)}, "output": str(place / name)}
        export(ExportStepConfig.model_validate(settings))
    found = benchmark(
        BenchmarkConfig.model_validate(
            {
                "models": [str(place / "fp32"), str(place / "small")],
                "benchmark": {"rounds": 2, "cells": [[1, 8]], "sentences": 16, "warmup": 2},
                "data": {"validation": str(place / "validation.jsonl")},
            }
        )
    ).to_json()
    first, second = found["rows"]
    assert (first["name"], second["name"]) == ("fp32", "small")
    assert first["speedup"] is None
    assert second["speedup"]["low"] <= second["speedup"]["value"] <= second["speedup"]["high"]
    assert {cell["length"] for cell in first["latency"]} == {8, None}
    json.dumps(found)


def test_candidates_have_names_that_tell_them_apart() -> None:
    paths = [Path("a/model"), Path("b/model"), Path("c/onnx/model.onnx"), Path("a/model")]
    assert list(_named(paths)) == ["a/model", "b/model", "onnx/model.onnx", "a/model (2)"]


def test_report_of_step_folders_compares_their_predictions(place: Path) -> None:
    for name, model in (("one", "model"), ("two", str(quantized(place).name))):
        settings = evaluation(place, model).model_copy(update={"output": str(place / name)})
        evaluate(settings)
    found = report([place / "one", place / "two"], output=place / "compared")
    assert [row.name for row in found.rows] == ["one", "two"]
    assert found.rows[1].retained is not None
    assert {path.name for path in (place / "compared").iterdir()} == {
        "report.json",
        "report.md",
        "report.html",
    }


def test_report_refuses_a_folder_without_result(place: Path) -> None:
    with pytest.raises(InputError, match="no finished run or step"):
        report([place])


def test_evaluate_against_a_baseline_tells_what_was_lost_and_lists_the_flips(place: Path) -> None:
    rows = [{**row, "source": ["web", "print"][index % 2]} for index, row in enumerate(toy_rows(80, seed=1))]
    write_rows(place / "validation.jsonl", rows)
    other = save_tiny(place / "other", seed=9)
    settings = evaluation(place, "model").model_copy(
        update={
            "baseline": ModelSource(path=str(other)),
            "slices": ("label", "length", "source"),
            "output": str(place / "ev"),
        }
    )
    found = evaluate(settings)
    before = evaluate(evaluation(place, "other")).quality["accuracy"].value
    compared = found.comparison
    assert compared is not None
    assert compared.drop.value == pytest.approx(before - found.quality["accuracy"].value)
    lines = [json.loads(line) for line in (place / "ev" / "flips.jsonl").read_text().splitlines()]
    assert compared.flips is not None
    assert {line["row"] for line in lines} == set(compared.flips)
    assert [line["row"] for line in lines][:20] == [flip.row for flip in compared.worst_flips]
    assert lines[0]["text"] == rows[lines[0]["row"]]["sentence"]
    assert {part.by for part in compared.slices} == {"label", "length", "source"}
    assert sum(part.examples for part in compared.slices if part.by == "source") == 80
    assert evaluate(evaluation(place, "model")).comparison is None


def test_a_column_that_is_not_there_and_a_model_of_other_labels_are_refused(place: Path) -> None:
    against = {"baseline": ModelSource(path=str(place / "model"))}
    settings = evaluation(place, "model").model_copy(update={**against, "slices": ("sentense",)})
    with pytest.raises(ConfigError, match=r"no column 'sentense' \(did you mean 'sentence'\?\)"):
        evaluate(settings)
    save_tiny(place / "moods")
    config = json.loads((place / "moods" / "config.json").read_text())
    config |= {"id2label": {"0": "positive", "1": "negative"}, "label2id": {"positive": 0, "negative": 1}}
    (place / "moods" / "config.json").write_text(json.dumps(config))
    settings = evaluation(place, "model").model_copy(
        update={"baseline": ModelSource(path=str(place / "moods"))}
    )
    with pytest.raises(InputError, match="label names differ"):
        evaluate(settings)

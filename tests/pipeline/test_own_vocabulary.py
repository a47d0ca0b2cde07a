"""A student with word pieces of its own through every step: trained, exported, scored, compared, timed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compressbert.config.schema import (
    BenchmarkConfig,
    CompressConfig,
    DataConfig,
    EvaluateConfig,
    ExportStepConfig,
)
from compressbert.data.own_vocabulary import small_tokenizer
from compressbert.data.read import read_split
from compressbert.errors import InputError
from compressbert.model.checkpoint import load_tokenizer
from compressbert.pipeline.steps.benchmark import benchmark
from compressbert.pipeline.steps.compare import compare_folders
from compressbert.pipeline.steps.compress import compress
from compressbert.pipeline.steps.evaluate import evaluate
from compressbert.pipeline.steps.export import export
from compressbert.pipeline.steps.inputs import own_lengths, validation_lengths
from tests.data.listening import hearing
from tests.tiny import question_rows, save_tiny, toy_rows, write_rows

TRAIN = {"max_steps": 2, "batch_size": 8, "precision": "fp32"}


@pytest.mark.parametrize("pairs", [False, True])
def test_a_chain(pairs: bool, tmp_path: Path) -> None:
    data = {
        "train": str(write_rows(tmp_path / "train.jsonl", toy_rows(48, pairs=pairs))),
        "validation": str(write_rows(tmp_path / "validation.jsonl", toy_rows(24, seed=1, pairs=pairs))),
    }
    folders = {name: tmp_path / name for name in ("teacher", "student", "int8", "teacher-onnx", "onnx")}
    save_tiny(folders["teacher"])

    def step(schema: type[Any], source: str, output: str, **more: Any) -> Any:
        places = {"model": {"path": str(folders[source])}, "output": str(folders[output])}
        return schema.model_validate({**places, "data": data, **more})

    method = {"name": "small_vocab", "vocabulary": 60, "layers": 1}
    compress("distill", step(CompressConfig, "teacher", "student", method=method, train=TRAIN))
    compress("quantize", step(CompressConfig, "student", "int8", method={"name": "dynamic_int8"}))
    exported = [
        export(step(ExportStepConfig, "teacher", "teacher-onnx")),
        export(step(ExportStepConfig, "int8", "onnx")),
    ]
    assert all(result.quality["accuracy"].examples == 24 for result in exported)
    assert len(load_tokenizer(folders["onnx"])) == len(load_tokenizer(folders["student"])) <= 60
    section = DataConfig.model_validate(data)
    found = compare_folders({name: folders[name] for name in ("teacher-onnx", "onnx")}, "teacher-onnx", section,
                            place=tmp_path)  # fmt: skip
    assert found["onnx"].metric == "accuracy"
    with hearing() as heard:
        lengths = own_lengths(section, {"teacher": folders["teacher-onnx"], "student": folders["onnx"]})
    assert lengths == {"student": validation_lengths(section, folders["student"])}
    assert any("student has its own tokenizer" in note for note in heard.notes)
    assert sum(lengths["student"]) > sum(validation_lengths(section, folders["teacher"]))
    settings = {"rounds": 2, "cells": [], "sentences": 8, "data_batch": 4, "warmup": 2}
    timed = BenchmarkConfig.model_validate(
        {
            "models": [str(folders[name]) for name in ("teacher-onnx", "onnx")],
            "benchmark": settings,
            "data": {"validation": data["validation"]},
        }
    )
    assert benchmark(timed).to_json()["rows"][1]["speedup"]["value"] > 0


def test_candidates_with_the_same_pieces_or_without_a_tokenizer_take_the_baselines_lengths(
    tmp_path: Path,
) -> None:
    first, second = (save_tiny(tmp_path / name) for name in ("a", "b"))
    bare = write_rows(tmp_path / "c" / "model.onnx", [])
    file = write_rows(tmp_path / "rows.jsonl", toy_rows(4))
    data = DataConfig.model_validate({"validation": str(file)})
    assert own_lengths(data, {"a": first, "b": second, "c": bare}) == {}


def test_other_windows_are_timed_at_the_baselines_lengths_and_that_is_said(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "rows.jsonl", question_rows(8))
    data = DataConfig.model_validate(
        {
            "task": "question-answering",
            "train": str(file),
            "validation": str(file),
            "max_length": 24,
            "answers": {"stride": 4, "max_question": 8},
        }
    )
    first, second = (save_tiny(tmp_path / name, head="answers") for name in ("a", "b"))
    small_tokenizer(load_tokenizer(first), read_split(data, "train"), size=20).save_pretrained(second)
    with hearing() as heard:
        assert own_lengths(data, {"a": first, "b": second}) == {}
    assert any("b splits contexts into other windows" in note for note in heard.notes)


def test_masked_words_of_two_tokenizers_are_not_compared(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("\n".join(row["sentence"] for row in toy_rows(24)), encoding="utf-8")
    section = {
        "task": "masked-lm",
        "train": str(tmp_path / "text.txt"),
        "validation": str(tmp_path / "text.txt"),
    }
    teacher = {"path": str(save_tiny(tmp_path / "teacher", head="masked-lm"))}
    method = {"name": "small_vocab", "vocabulary": 60, "layers": 1}
    settings = {"model": teacher, "data": section, "method": method, "train": TRAIN}
    result = compress(
        "distill", CompressConfig.model_validate({**settings, "output": str(tmp_path / "student")})
    )
    assert 0 <= result.quality["masked_accuracy"].value <= 1
    evaluated = {"model": {"path": str(tmp_path / "student")}, "data": section, "baseline": teacher}
    with pytest.raises(InputError, match="other words are masked"):
        evaluate(EvaluateConfig.model_validate(evaluated))
    own = EvaluateConfig.model_validate({**evaluated, "baseline": None, "model": teacher})
    evaluate(own.model_copy(update={"output": str(tmp_path / "scored")}))
    folders = {"teacher": tmp_path / "scored", "student": tmp_path / "student"}
    for file in (tmp_path / "teacher").iterdir():
        (folders["teacher"] / file.name).write_bytes(file.read_bytes())
    with hearing() as heard:
        found = compare_folders(folders, "teacher", DataConfig.model_validate(section), place=tmp_path)
    assert found == {}
    assert any("student cuts texts into other pieces" in note for note in heard.notes)

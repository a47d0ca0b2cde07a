from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compressbert.config.schema import DataConfig
from compressbert.data.encode import encode
from compressbert.data.read import read_split
from compressbert.errors import InputError, WorkError
from compressbert.measure.comparison import compare
from compressbert.measure.quality import (
    evaluate,
    load_predictions,
    quality_of,
    quality_of_predictions,
    save_predictions,
)
from compressbert.measure.runners import open_runner
from compressbert.model.checkpoint import load
from compressbert.tasks.base import task_for
from compressbert.tasks.predictions import Predictions
from compressbert.train.predict import predict
from tests.tiny import save_tiny, tiny_tokenizer, toy_rows, write_rows

BINARY = task_for(DataConfig(), ("negative", "positive"))
REGRESSION = task_for(DataConfig(task="regression"), ())
MULTI = task_for(DataConfig(task="multi-label"), ("a", "b", "c"))
MASKED = task_for(DataConfig(task="masked-lm"), ())


def logits_for(predicted: Any) -> np.ndarray:
    return np.eye(2, dtype=np.float32)[np.asarray(predicted, dtype=int)] * 3


def test_results_have_value_interval_direction_and_examples() -> None:
    labels = np.arange(100) % 2
    predicted = labels.copy()
    predicted[:20] = 1 - predicted[:20]
    quality = quality_of(logits_for(predicted), labels, BINARY)
    accuracy = quality.results["accuracy"]
    assert accuracy.value == pytest.approx(0.8)
    assert accuracy.low < 0.8 < accuracy.high
    assert (accuracy.direction, accuracy.examples) == ("higher", 100)
    assert set(quality.results) == {metric.name for metric in BINARY.metrics}


def test_logits_that_are_not_numbers_are_refused() -> None:
    logits = logits_for([0, 1, 0])
    logits[1, 0] = np.nan
    with pytest.raises(WorkError, match=r"1 of 3 rows .* the first is row 1"):
        quality_of(logits, np.array([0, 1, 0]), BINARY)


def test_predictions_survive_the_disk(tmp_path: Path) -> None:
    quality = quality_of(logits_for([0, 1, 1]), np.array([0, 0, 1]), BINARY)
    save_predictions(tmp_path / "predictions.safetensors", quality)
    again = load_predictions(tmp_path / "predictions.safetensors", BINARY)
    assert (again.logits == quality.logits).all()
    assert (again.labels == quality.labels).all()
    assert again.results == quality.results
    assert again.decisions is None
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.safetensors"]
    (tmp_path / "broken").write_bytes(b"xx")
    for name in ("missing", "broken"):
        with pytest.raises(InputError, match="Evaluate the model again"):
            load_predictions(tmp_path / name, BINARY)


def test_decisions_that_are_texts_survive_the_disk(tmp_path: Path) -> None:
    scores = np.array([[1, 1, 2, 2, 3], [0, 1, 0, 0, 2], [0, 0, 0, 1, 1]], np.float32)
    right = np.array([False, False, True])
    found = Predictions(scores, np.zeros(3), ("B-ä O", "", "O"), np.array([1, 2, 3], np.float32), right)
    task = task_for(DataConfig(task="token-classification"), ("O", "B-ä"))
    quality = quality_of_predictions(found, task)
    save_predictions(tmp_path / "p.safetensors", quality)
    again = load_predictions(tmp_path / "p.safetensors", task)
    assert again.decisions == ("B-ä O", "", "O")
    assert again.margins is not None
    assert again.margins.tolist() == [1, 2, 3]
    assert again.right is not None
    assert again.right.tolist() == [False, False, True]
    assert again.results == quality.results
    changed = replace(again, decisions=("B-ä O", "O", "O"))
    assert compare(quality, changed, quality.labels, task).flips == (1,)


def test_evaluating_a_folder_gives_the_models_logits_in_row_order(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model")
    file = write_rows(tmp_path / "rows.jsonl", toy_rows(70))
    split = read_split(DataConfig(validation=str(file)), "validation", label_names=BINARY.label_names)
    encoded = encode(split, tiny_tokenizer(), task=BINARY, max_length=32)
    runner = open_runner(folder)
    quality = evaluate(runner, BINARY, encoded, batch_size=16)
    np.testing.assert_allclose(quality.logits, predict(load(folder), encoded), atol=1e-5)
    expected = (quality.logits.argmax(1) == encoded.labels).mean()
    assert quality.results["accuracy"].value == pytest.approx(expected)
    assert 0 < expected < 1


def test_masked_words_are_scored_and_compared_row_by_row(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", head="masked-lm")
    file = write_rows(tmp_path / "rows.jsonl", [{"text": row["sentence"]} for row in toy_rows(60)])
    split = read_split(DataConfig(validation=str(file), task="masked-lm"), "validation")
    encoded = encode(split, tiny_tokenizer(), task=MASKED, max_length=32)
    quality = evaluate(open_runner(folder), MASKED, encoded, batch_size=16)
    scored = quality.logits[:, 2]
    assert quality.results["masked_accuracy"].value == pytest.approx(
        quality.logits[:, 0].sum() / scored.sum()
    )
    assert quality.results["perplexity"].value == pytest.approx(
        np.exp(quality.logits[:, 1].sum() / scored.sum()), rel=1e-5
    )
    assert quality.results["perplexity"].direction == "lower"
    labels = quality.labels
    save_predictions(tmp_path / "p.safetensors", quality)
    again = load_predictions(tmp_path / "p.safetensors", MASKED)
    assert again.results == quality.results
    assert compare(quality, again, labels, MASKED).drop.high == 0

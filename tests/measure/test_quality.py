from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compressbert.config.schema import DataConfig
from compressbert.data.encode import encode
from compressbert.data.read import read_split
from compressbert.errors import InputError, WorkError
from compressbert.measure.quality import (
    compare,
    evaluate,
    labels_of,
    load_predictions,
    margins,
    predictions,
    quality_of,
    save_predictions,
    write_flips,
)
from compressbert.measure.runners import open_runner
from compressbert.model.checkpoint import load
from compressbert.tasks.base import Task, task_for
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


def test_comparison_by_hand() -> None:
    labels = np.zeros(100, np.int64)
    before, after = np.zeros(100, int), np.zeros(100, int)
    before[:10] = 1  # 90 right
    after[:4] = 1  # of these ten, six are mended
    after[50:62] = 1  # and twelve others lost: 84 right
    found = compare(*(quality_of(logits_for(p), labels, BINARY) for p in (before, after)), labels, BINARY)
    assert found.metric == "accuracy"
    assert found.drop.value == pytest.approx(0.06)
    assert found.drop.low < 0.06 < found.drop.high
    assert found.retained is not None
    assert found.retained.value == pytest.approx(84 / 90)
    assert found.flips == (*range(4, 10), *range(50, 62))
    assert found.mcnemar_p == pytest.approx(0.2379, abs=1e-4)  # 6 against 12 discordant pairs


def test_against_itself_nothing_is_lost() -> None:
    labels = np.arange(50) % 2
    quality = quality_of(logits_for(np.arange(50) % 3 > 0), labels, BINARY)
    found = compare(quality, quality, labels, BINARY)
    assert (found.drop.low, found.drop.high, found.flips, found.mcnemar_p) == (0, 0, (), 1.0)


def test_other_rows_are_refused() -> None:
    one, two = (quality_of(logits_for([0] * n), np.zeros(n, np.int64), BINARY) for n in (3, 4))
    with pytest.raises(InputError, match="same rows"):
        compare(one, two, np.zeros(3), BINARY)


def test_regression_has_no_flips_and_a_drop_of_the_correlation() -> None:
    generator = np.random.default_rng(0)
    labels = generator.normal(size=200).astype(np.float32)
    exact = quality_of(labels[:, None].copy(), labels, REGRESSION)
    noisy = quality_of((labels + generator.normal(size=200))[:, None].astype(np.float32), labels, REGRESSION)
    found = compare(exact, noisy, labels, REGRESSION)
    assert (found.metric, found.flips, found.mcnemar_p) == ("pearson", None, None)
    assert found.drop.value == pytest.approx(1 - np.corrcoef(labels, noisy.logits[:, 0])[0, 1], abs=1e-6)
    assert found.drop.low > 0
    assert predictions(exact.logits, REGRESSION) is None


@dataclass(frozen=True)
class LowerIsBetter:
    """The regression task, judged by its error."""

    inner: Task
    primary_metric: str = "mean_squared_error"

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def test_where_lower_is_better_a_rise_is_a_drop() -> None:
    labels = np.arange(20, dtype=np.float32)
    offset = [
        quality_of((labels + by * (-1) ** np.arange(20))[:, None].astype(np.float32), labels, REGRESSION)
        for by in (1, 2)
    ]
    found = compare(*offset, labels, LowerIsBetter(REGRESSION))
    assert found.drop.value == pytest.approx(3)  # from 1 to 4
    assert found.retained is not None
    assert found.retained.value == pytest.approx(0.25)


def test_multi_label_rows_flip_when_any_label_does() -> None:
    labels = np.zeros((3, 3), np.float32)
    before = np.array([[1, -1, -1], [1, 1, -1], [-1, -1, -1]], np.float32)
    after = np.array([[2, -3, -1], [1, -0.5, -1], [-1, -1, -2]], np.float32)
    found = compare(*(quality_of(x, labels, MULTI) for x in (before, after)), labels, MULTI)
    assert (found.flips, found.mcnemar_p) == ((1,), None)
    assert margins(after, MULTI).tolist() == [1, 0.5, 1]
    assert margins(after[:, :2], BINARY).tolist() == [5, 1.5, 0]


def test_predictions_survive_the_disk(tmp_path: Path) -> None:
    logits, labels = logits_for([0, 1, 1]), np.array([0, 0, 1])
    save_predictions(tmp_path / "predictions.safetensors", logits, labels)
    again, labels_again = load_predictions(tmp_path / "predictions.safetensors")
    assert (again == logits).all()
    assert (labels_again == labels).all()
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.safetensors"]
    (tmp_path / "broken").write_bytes(b"xx")
    for name in ("missing", "broken"):
        with pytest.raises(InputError, match="Evaluate the model again"):
            load_predictions(tmp_path / name)


def test_flips_are_written_with_text_names_and_margins(tmp_path: Path) -> None:
    rows = [{"sentence": f"text {i} <b>", "label": i % 2} for i in range(6)]
    file = write_rows(tmp_path / "rows.jsonl", rows)
    split = read_split(DataConfig(validation=str(file)), "validation", label_names=("negative", "positive"))
    labels = np.arange(6) % 2
    before, after = logits_for(labels), logits_for(labels)
    after[2], after[5] = [0, 1], [4, 0]
    qualities = [quality_of(x, labels, BINARY) for x in (before, after)]
    found = compare(*qualities, labels, BINARY)
    write_flips(
        tmp_path / "flips.jsonl",
        found,
        baseline=qualities[0],
        candidate=qualities[1],
        split=split,
        task=BINARY,
    )
    first, second = [json.loads(line) for line in (tmp_path / "flips.jsonl").read_text().splitlines()]
    assert first == {
        "row": 5, "text": "text 5 <b>", "label": "positive", "baseline": "positive", "candidate": "negative",
        "baseline_margin": 3.0, "candidate_margin": 4.0,
    }  # fmt: skip
    assert (second["row"], second["candidate_margin"]) == (2, 1.0)


def test_evaluating_a_folder_gives_the_models_logits_in_row_order(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model")
    file = write_rows(tmp_path / "rows.jsonl", toy_rows(70))
    split = read_split(DataConfig(validation=str(file)), "validation", label_names=BINARY.label_names)
    encoded = encode(split, tiny_tokenizer(), task=BINARY, max_length=32)
    runner = open_runner(folder)
    quality = evaluate(runner, BINARY, encoded, batch_size=16)
    np.testing.assert_allclose(quality.logits, predict(load(folder), encoded), atol=1e-5)
    expected = (quality.logits.argmax(1) == labels_of(encoded)).mean()
    assert quality.results["accuracy"].value == pytest.approx(expected)
    assert 0 < expected < 1


def test_masked_words_are_scored_and_compared_row_by_row(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", head="masked-lm")
    file = write_rows(tmp_path / "rows.jsonl", [{"text": row["sentence"]} for row in toy_rows(60)])
    split = read_split(DataConfig(validation=str(file), task="masked-lm"), "validation")
    encoded = encode(split, tiny_tokenizer(), task=MASKED, max_length=32)
    quality = evaluate(open_runner(folder), MASKED, encoded, batch_size=16)
    scored = quality.logits[:, 1]
    assert quality.results["masked_accuracy"].value == pytest.approx(
        quality.logits[:, 0].sum() / scored.sum()
    )
    assert quality.results["perplexity"].value == pytest.approx(
        np.exp(quality.logits[:, 2].sum() / scored.sum()), rel=1e-5
    )
    assert quality.results["perplexity"].direction == "lower"
    labels = labels_of(encoded)
    save_predictions(tmp_path / "p.safetensors", quality.logits, labels)
    again = quality_of(*load_predictions(tmp_path / "p.safetensors"), MASKED)
    assert again.results == quality.results
    assert compare(quality, again, labels, MASKED).drop.high == 0

"""Tagging: loss at first pieces, sentence scores by hand, words beyond the cut missed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from compressbert.config.schema import DataConfig, TaggingSettings
from compressbert.data.batches import Batch, ordered_batches
from compressbert.data.encode import Encoded, encode
from compressbert.data.read import read_split
from compressbert.errors import InputError
from compressbert.tasks.base import Task, task_for
from tests.tiny import tiny_tokenizer, write_rows

NAMES = ("O", "B-X", "I-X")


def task_of(names: tuple[str, ...] = NAMES, **settings: object) -> Task:
    return task_for(
        DataConfig(task="token-classification", tagging=TaggingSettings.model_validate(settings)), names
    )


def encoded_of(folder: Path, sentences: list[tuple[str, str]], task: Task, max_length: int = 32) -> Encoded:
    rows = [{"tokens": words.split(), "ner_tags": tags.split()} for words, tags in sentences]
    config = DataConfig(task="token-classification", train=str(write_rows(folder / "r.jsonl", rows)))
    split = read_split(config, "train", label_names=task.label_names)
    return encode(split, tiny_tokenizer(), task=task, max_length=max_length)


def answers(batch: Batch, encoded: Encoded, tags: list[list[int]], classes: int = 3) -> torch.Tensor:
    """Logits that say ``tags`` at first pieces, and the last class elsewhere."""
    logits = torch.zeros(*batch.inputs["input_ids"].shape, classes)
    logits[..., -1] = 9.0
    for row, example in enumerate(batch.examples.tolist()):
        start, end = encoded.offsets[example : example + 2]
        places = np.flatnonzero(encoded.token_places[start:end] >= 0)
        for place, tag in zip(places, tags[example], strict=False):
            logits[row, place] = 0.0
            logits[row, place, tag] = 4.0
    return logits


def scored(task: Task, encoded: Encoded, tags: list[list[int]]) -> tuple[np.ndarray, tuple[str, ...]]:
    collector = task.collector(encoded)
    for batch in ordered_batches(encoded, batch_size=2, pad_id=0):
        collector.add(batch, answers(batch, encoded, tags, task.num_outputs))
    found = collector.finish()
    assert found.decisions is not None
    assert found.margins is not None
    np.testing.assert_allclose(found.margins, 4)
    return found.scores, found.decisions


def test_the_metric_follows_from_the_tags() -> None:
    assert task_of().primary_metric == "entity_f1"
    assert task_of(("NOUN", "VERB")).primary_metric == "accuracy"
    assert task_of(scheme="none").primary_metric == "accuracy"
    assert [metric.name for metric in task_of(("NOUN", "VERB")).metrics] == ["accuracy"]
    assert task_of().spec().num_outputs == 3


def test_sentences_by_hand_in_any_order(tmp_path: Path) -> None:
    task = task_of()
    sentences = [("films was good", "B-X O B-X"), ("good very brightly song", "B-X I-X O O"), ("song", "O")]
    encoded = encoded_of(tmp_path, sentences, task)
    scores, decisions = scored(task, encoded, [[1, 0, 0], [1, 2, 2, 0], [0]])
    # found, predicted, true entities; right, all words
    assert scores.tolist() == [[1, 1, 2, 2, 3], [0, 1, 1, 3, 4], [0, 0, 0, 1, 1]]
    assert decisions == ("B-X O O", "B-X I-X I-X O", "O")
    assert task.metrics[0](scores, np.zeros(3)) == pytest.approx(2 / 5)


def test_strict_reading_counts_well_formed_entities_only(tmp_path: Path) -> None:
    sentences = [("good song", "B-X O")]
    for strict, expected in ((False, [0, 1, 1, 0, 2]), (True, [0, 0, 1, 0, 2])):
        task = task_of(strict=strict)
        encoded = encoded_of(tmp_path, sentences, task)
        assert scored(task, encoded, [[0, 2]])[0].tolist() == [expected]


def test_words_beyond_the_cut_count_as_outside(tmp_path: Path) -> None:
    task = task_of()
    encoded = encoded_of(tmp_path, [("good song was good", "B-X O O B-X")], task, max_length=4)
    assert encoded.truncated == 1
    scores, decisions = scored(task, encoded, [[1, 0]])
    assert decisions == ("B-X O O O",)
    assert scores.tolist() == [[1, 1, 2, 3, 4]]


def test_loss_is_the_mean_over_words() -> None:
    logits = torch.zeros(1, 4, 3)
    logits[0, 1, 2] = math.log(2)  # p = 2/4
    labels = torch.tensor([[-100, 2, 0, -100]])
    assert task_of().loss(logits, labels).item() == pytest.approx((math.log(2) + math.log(3)) / 2)
    assert task_of().loss(logits, torch.full((1, 4), -100)).item() == 0


def test_signals_are_the_words_with_labels_or_without() -> None:
    logits = torch.arange(12.0).view(1, 4, 3)
    inputs = {"attention_mask": torch.tensor([[1, 1, 1, 0]])}
    labels = torch.tensor([[-100, 1, -100, -100]])
    words = torch.tensor([[-1, 0, -1, -1]])
    for known in (labels, None):  # where words begin does not rest on labels
        batch = Batch(inputs, known, torch.tensor([0]), words)
        assert torch.equal(task_of().signals(logits, batch), logits[0, 1:2])
    with pytest.raises(InputError, match="not lists of words"):
        task_of().signals(logits, Batch(inputs, labels, torch.tensor([0])))


def test_rows_without_tags_cannot_be_scored() -> None:
    encoded = Encoded(np.zeros(1, np.int32), None, np.array([0, 1]), None, 0, 8, "key")
    with pytest.raises(InputError, match="no tags"):
        task_of().collector(encoded)

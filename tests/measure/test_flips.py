"""Rows whose prediction changed, and in which order a reader gets them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from compressbert.config.schema import DataConfig
from compressbert.data.read import Split, read_split
from compressbert.errors import InputError
from compressbert.measure.comparison import compare
from compressbert.measure.flips import flips, write_flips
from compressbert.measure.quality import quality_of
from compressbert.tasks.base import task_for
from tests.measure.test_quality import BINARY, REGRESSION, logits_for
from tests.tiny import write_rows


def split_of(tmp_path: Path, labels: np.ndarray) -> Split:
    rows = [{"sentence": f"text {i} <b>", "label": int(label)} for i, label in enumerate(labels)]
    file = write_rows(tmp_path / "rows.jsonl", rows)
    return read_split(DataConfig(validation=str(file)), "validation", label_names=BINARY.label_names)


def test_new_errors_come_first_the_surest_at_the_top(tmp_path: Path) -> None:
    labels = np.array([0, 1, 0, 1, 1, 0])
    before, after = logits_for(labels), logits_for(labels)
    before[4] = [5, 0]  # wrong, and mended by the candidate, which is very sure of it
    after[4] = [0, 9]
    after[2], after[5] = [0, 1], [0, 4]  # two new errors
    qualities = [quality_of(x, labels, BINARY) for x in (before, after)]
    found = list(
        flips(
            compare(*qualities, labels, BINARY), baseline=qualities[0], candidate=qualities[1], labels=labels,
            split=split_of(tmp_path, labels), task=BINARY,
        )
    )  # fmt: skip
    assert [flip.row for flip in found] == [5, 2, 4]
    write_flips(tmp_path / "place" / "flips.jsonl", found)
    lines = (tmp_path / "place" / "flips.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {
        "row": 5, "text": "text 5 <b>", "label": "negative", "baseline": "negative", "candidate": "positive",
        "baseline_margin": 3.0, "candidate_margin": 4.0,
    }  # fmt: skip
    assert len(lines) == 3
    assert [file.name for file in (tmp_path / "place").iterdir()] == ["flips.jsonl"]


def test_labels_of_a_multi_label_row_are_listed(tmp_path: Path) -> None:
    task = task_for(DataConfig(task="multi-label"), ("a", "b", "c"))
    labels = np.array([[1, 0, 1], [0, 0, 0]], np.float32)
    before, after = np.where(labels > 0, 2.0, -2.0), np.where(labels > 0, 2.0, -2.0)
    after[0, 0], after[1, 1] = -0.5, 1.0
    qualities = [quality_of(x.astype(np.float32), labels, task) for x in (before, after)]
    rows = [{"text": "x", "label": [["a", "c"], []][i]} for i in range(2)]
    file = write_rows(tmp_path / "rows.jsonl", rows)
    split = read_split(
        DataConfig(task="multi-label", validation=str(file)), "validation", label_names=task.label_names
    )
    first, second = flips(
        compare(*qualities, labels, task), baseline=qualities[0], candidate=qualities[1], labels=labels,
        split=split, task=task,
    )  # fmt: skip
    assert (first.row, first.label, first.baseline, first.candidate) == (1, "", "", "b")
    assert (second.row, second.label, second.baseline, second.candidate) == (0, "a, c", "a, c", "c")


def test_a_number_cannot_flip(tmp_path: Path) -> None:
    labels = np.arange(6.0)
    quality = quality_of(labels[:, None].astype(np.float32), labels, REGRESSION)
    found = compare(quality, quality, labels, REGRESSION)
    with pytest.raises(InputError, match="no labels that could flip"):
        next(
            flips(
                found, baseline=quality, candidate=quality, labels=labels,
                split=split_of(tmp_path, np.arange(6) % 2), task=REGRESSION,
            )
        )  # fmt: skip

"""Masked words: sums by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compressbert.config.schema import DataConfig
from compressbert.data.batches import Batch
from compressbert.data.encode import Encoded
from compressbert.errors import InputError
from compressbert.tasks.base import task_for
from compressbert.tasks.masked_lm import MASKED_ACCURACY, PERPLEXITY

TASK = task_for(DataConfig(task="masked-lm"), ())


def rows(count: int) -> Encoded:
    return Encoded(np.zeros(count, np.int32), None, np.arange(count + 1), None, 0, 8, "key")


def test_metrics_by_hand_whatever_the_batches() -> None:
    labels = torch.tensor([[-100, 2, -100], [0, -100, 1], [-100, -100, -100]])
    logits = torch.zeros(3, 3, 3)
    logits[0, 1] = torch.tensor([0, 0, np.log(2)])  # p(2) = 2/4, right
    logits[1, 0] = torch.tensor([np.log(6), 0, 0])  # p(0) = 6/8, right
    logits[1, 2] = torch.tensor([np.log(8), 0, 0])  # p(1) = 1/10, wrong
    collector = TASK.collector(rows(3))
    for chosen in (torch.tensor([2, 0]), torch.tensor([1])):
        collector.add(Batch({}, labels[chosen], chosen), logits[chosen])
    found = collector.finish()
    assert MASKED_ACCURACY(found.scores, found.labels) == pytest.approx(2 / 3)
    assert PERPLEXITY(found.scores, found.labels) == pytest.approx((0.5 * 0.75 * 0.1) ** (-1 / 3), rel=1e-6)
    assert PERPLEXITY.direction == "lower"


def test_large_logits_stay_finite() -> None:
    collector = TASK.collector(rows(1))
    collector.add(
        Batch({}, torch.tensor([[0, 1]]), torch.tensor([0])), torch.tensor([[[5e3, 0.0], [5e3, 0.0]]])
    )
    assert collector.finish().scores.tolist() == [[1, 5000, 2]]


def test_rows_without_a_masked_word_cannot_be_scored() -> None:
    collector = TASK.collector(rows(1))
    collector.add(Batch({}, torch.tensor([[-100]]), torch.tensor([0])), torch.zeros(1, 1, 2))
    with pytest.raises(InputError, match="no word of 1 rows was masked"):
        collector.finish()

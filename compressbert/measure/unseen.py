"""Rows that might have been seen and were not: what keeps an interval honest when few rows speak.

If two models disagree on no row of a hundred, resampling those rows can never show a disagreement, and the interval
of their difference would be a point. So a bootstrap of decisions also draws from added rows, less than one row of
each kind: for two models one that the candidate loses and one that it wins, for one model one it gets right and one
it gets wrong. Their labels are spread like those of the data. `benchmarks/coverage.py` measures the effect.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressbert.measure.statistics import Prior
from compressbert.tasks.base import Task
from compressbert.tasks.metrics import Metric

ALONE = 0.5  # of a row right and of a row wrong, for one model (Jeffreys' prior of a proportion)
PAIRED = 2 / 3  # of a row lost and of a row won, for two models: chosen by coverage


def prior_alone(metric: Metric, labels: NDArray[Any], task: Task) -> Prior | None:
    """Added rows for one model's metric; None where the metric looks at more than the decision."""
    if not _applies(metric, task):
        return None
    right, wrong, classes, shares = _rows(labels, task)
    table = np.concatenate([metric.statistics(logits, classes) for logits in (right, wrong)])
    return Prior((table,), ALONE * np.concatenate([shares, shares]))


def prior_paired(metric: Metric, labels: NDArray[Any], task: Task) -> Prior | None:
    """Added rows for two models' difference in a metric; None where it looks at more than the decision."""
    if not _applies(metric, task):
        return None
    right, wrong, classes, shares = _rows(labels, task)
    good, bad = metric.statistics(right, classes), metric.statistics(wrong, classes)
    tables = np.concatenate([good, bad]), np.concatenate([bad, good])  # lost, then won
    return Prior(tables, PAIRED * np.concatenate([shares, shares]))


def _applies(metric: Metric, task: Task) -> bool:
    return metric.decided and task.kind == "sequence-classification"


def _rows(
    labels: NDArray[Any], task: Task
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Logits of a right and of a wrong decision for each class that occurs, the classes, and their shares.

    The wrong decision is for the most frequent of the other classes.
    """
    counts = np.bincount(labels.astype(np.int64), minlength=task.num_outputs)
    classes = np.flatnonzero(counts)
    first, second = np.argsort(-counts, kind="stable")[:2]
    one_hot = np.eye(task.num_outputs)
    return (
        one_hot[classes],
        one_hot[np.where(classes == first, second, first)],
        classes,
        counts[classes] / len(labels),
    )

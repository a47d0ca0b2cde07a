"""Quality metrics as functions of sums over examples, so that any number of bootstrap resamples is one matrix
product.

A metric has two halves: `statistics` turns logits and labels into k numbers per example, `value` turns sums
of them (weighted by how often a resample drew each example) into the metric.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from compressbert.errors import InputError

Array = NDArray[Any]
Floats = NDArray[np.float64]
NOT_SCORED = -100  # the label of a token that is not asked about


@dataclass(frozen=True)
class Metric:
    """One quality metric.

    Attributes:
        name: As it stands in results and reports.
        direction: Whether more or less of it is better.
        statistics: ``(logits, labels) -> (N, k) float64``. The whole split is passed at once: `pearson` and
            `spearman` shift and rank within it. Tasks whose outputs are too many hand over what is summed
            instead of logits (`predictions.Predictions`).
        value: ``sums (..., k) -> (...,) float64``. Unchanged when all sums are multiplied by one number.
        decided: The statistics depend on the logits through the decision alone (which label, not how sure).
        noisy: Noise of the examples only ever adds to it, and a resample adds more: its resamples are moved
            back by what they lie above the value on average.
        bounded: The metric lies in [-1, 1], so that a loss in points means something. Losses of others are
            judged relative to the baseline.
    """

    name: str
    direction: Literal["higher", "lower"]
    statistics: Callable[[Array, Array], Floats]
    value: Callable[[Floats], Floats]
    decided: bool = False
    noisy: bool = False
    bounded: bool = True

    def __call__(self, logits: Array, labels: Array) -> float:
        """The metric over all examples. InputError when there is none."""
        if len(labels) == 0:
            raise InputError(
                f"{self.name}: expected at least one example, found none", hint="Give a split with rows."
            )
        return float(self.value(self.statistics(np.asarray(logits), np.asarray(labels)).sum(axis=0)))


def ratio(top: Floats, bottom: Floats) -> Floats:
    """top / bottom, and 0 where bottom is 0: nothing was predicted or nothing was there to find."""
    top, bottom = np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64)
    return np.divide(
        top, bottom, out=np.zeros(np.broadcast_shapes(top.shape, bottom.shape)), where=bottom != 0
    )


# one label per example: logits (N, C), labels (N,)


def _hits(logits: Array, labels: Array) -> Floats:
    """(N, 2): right or not, 1."""
    right = logits.argmax(axis=1) == labels
    return np.stack([right, np.ones(len(labels))], axis=1).astype(np.float64)


def _per_class(logits: Array, labels: Array) -> Floats:
    """(N, 3C): true positives, predictions and true labels of each class."""
    one_hot = np.eye(logits.shape[1])
    predicted, true = one_hot[logits.argmax(axis=1)], one_hot[labels]
    return np.concatenate([predicted * true, predicted, true], axis=1)


def _thirds(sums: Floats) -> tuple[Floats, Floats, Floats]:
    hits, predicted, true = np.split(np.asarray(sums, dtype=np.float64), 3, axis=-1)
    return hits, predicted, true


def _balanced_accuracy(sums: Floats) -> Floats:
    """Mean recall of the classes that occur among the labels."""
    hits, _, true = _thirds(sums)
    return ratio(ratio(hits, true).sum(axis=-1), (true > 0).sum(axis=-1))


def _macro_f1(sums: Floats) -> Floats:
    """Mean F1 of the classes that occur among the labels or the predictions."""
    hits, predicted, true = _thirds(sums)
    return ratio(ratio(2 * hits, predicted + true).sum(axis=-1), (predicted + true > 0).sum(axis=-1))


def _binary_f1(sums: Floats) -> Floats:
    hits, predicted, true = _thirds(sums)
    return ratio(2 * hits[..., 1], predicted[..., 1] + true[..., 1])


def _matthews(sums: Floats) -> Floats:
    """Matthews correlation for any number of classes (Gorodkin 2004); 0 when labels or predictions are all
    one class.
    """
    hits, predicted, true = _thirds(sums)
    right, count = hits.sum(axis=-1), true.sum(axis=-1)
    covariance = right * count - (predicted * true).sum(axis=-1)
    spread = (count**2 - (predicted**2).sum(axis=-1)) * (count**2 - (true**2).sum(axis=-1))
    return ratio(covariance, np.sqrt(np.maximum(spread, 0.0)))


def _share(sums: Floats) -> Floats:
    return ratio(sums[..., 0], sums[..., 1])


ACCURACY = Metric("accuracy", "higher", _hits, _share, decided=True)
BALANCED_ACCURACY = Metric("balanced_accuracy", "higher", _per_class, _balanced_accuracy, decided=True)
MACRO_F1 = Metric("macro_f1", "higher", _per_class, _macro_f1, decided=True)
F1 = Metric("f1", "higher", _per_class, _binary_f1, decided=True)  # of class 1, for two classes
MATTHEWS = Metric("matthews", "higher", _per_class, _matthews, decided=True)


# one label at a time, of single-label and multi-label tasks


def label_metrics(names: Sequence[str], *, multi_label: bool = False) -> tuple[Metric, ...]:
    """``precision[NAME]`` and ``recall[NAME]`` of every label: of the rows given the label, the share that
    have it; of the rows that have it, the share that were given it. 0 where there is no such row.
    """
    statistics = _per_label if multi_label else _per_class
    return tuple(
        Metric(f"{kind}[{name}]", "higher", statistics, partial(_found_share, label, part), decided=True)
        for label, name in enumerate(names)
        for kind, part in (("precision", 1), ("recall", 2))
    )


def _found_share(label: int, part: int, sums: Floats) -> Floats:
    """True positives of ``label`` over its predictions (part 1) or its rows (part 2)."""
    thirds = _thirds(sums)
    return ratio(thirds[0][..., label], thirds[part][..., label])


# calibration

CALIBRATION_BINS = 15


def _confidence_gaps(logits: Array, labels: Array) -> Floats:
    """(N, 3 bins): confidence minus right (1 or 0), its square, and 1, each in the bin of the confidence.

    Bins are equally wide, over (0, 1]; confidence is the softmax of the decided label.
    """
    scores = logits.astype(np.float64)
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    confidence = scores.max(axis=1) / scores.sum(axis=1)
    gap = confidence - (logits.argmax(axis=1) == labels)
    place = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
    one_hot = np.eye(CALIBRATION_BINS)[place]
    return np.concatenate([gap[:, None] * one_hot, (gap**2)[:, None] * one_hot, one_hot], axis=1)


def _calibration_error(sums: Floats) -> Floats:
    """Mean over rows of their bin's distance between confidence and accuracy (Guo et al. 2017), less its noise.

    The distance of a bin of few rows is never 0, however well calibrated the model is. So the variance of the
    bin's mean is taken from its square first, as Kumar et al. (2019) do for the squared error.
    """
    gaps, squares, counts = np.split(np.asarray(sums, dtype=np.float64), 3, axis=-1)
    noise = (squares - ratio(gaps**2, counts)) * ratio(counts, np.maximum(counts - 1, 1))
    return ratio(np.sqrt(np.maximum(gaps**2 - noise, 0.0)).sum(axis=-1), counts.sum(axis=-1))


CALIBRATION_ERROR = Metric(
    "expected_calibration_error", "lower", _confidence_gaps, _calibration_error, noisy=True
)


# regression: logits (N, 1), labels (N,)


def _moments(x: Array, y: Array) -> Floats:
    """(N, 6): 1, x, y, x², y², xy. Both are centred and scaled first, which leaves a correlation as it is and
    keeps the sums from cancelling.
    """
    x, y = _standard(x), _standard(y)
    return np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=1)


def _standard(values: Array) -> Floats:
    centred = np.asarray(values, dtype=np.float64) - np.mean(values, dtype=np.float64)
    spread = np.abs(centred).max()
    return centred / spread if spread > 0 else centred


def _correlation(sums: Floats) -> Floats:
    """Pearson's r from moments; 0 when either side does not vary."""
    count, x, y, xx, yy, xy = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)
    varying = (count * xx - x * x) * (count * yy - y * y)
    return ratio(count * xy - x * y, np.sqrt(np.maximum(varying, 0.0)))


def _pearson(logits: Array, labels: Array) -> Floats:
    return _moments(logits.reshape(len(labels)), labels)


def _spearman(logits: Array, labels: Array) -> Floats:
    """Moments of the ranks (ties share their mean rank). Ranks are those of the whole split: a resample does
    not rank anew, which is the usual approximation and what keeps the metric a function of sums.
    """
    return _moments(_ranks(logits.reshape(len(labels))), _ranks(labels))


def _ranks(values: Array) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2.0)[inverse.reshape(-1)]
    return ranks


def _squared_error(logits: Array, labels: Array) -> Floats:
    error = logits.reshape(len(labels)).astype(np.float64) - labels
    return np.stack([error * error, np.ones(len(labels))], axis=1)


PEARSON = Metric("pearson", "higher", _pearson, _correlation)
SPEARMAN = Metric("spearman", "higher", _spearman, _correlation)
MEAN_SQUARED_ERROR = Metric("mean_squared_error", "lower", _squared_error, _share, bounded=False)


# several labels per example: logits (N, C), labels (N, C) of 0 and 1; a class is predicted if its logit > 0


def _per_label(logits: Array, labels: Array) -> Floats:
    predicted, true = (logits > 0).astype(np.float64), (labels > 0.5).astype(np.float64)
    return np.concatenate([predicted * true, predicted, true], axis=1)


def _micro_f1(sums: Floats) -> Floats:
    hits, predicted, true = (part.sum(axis=-1) for part in _thirds(sums))
    return ratio(2 * hits, predicted + true)


def _macro_f1_of_labels(sums: Floats) -> Floats:
    """Mean F1 over all classes; one that neither occurs nor is predicted counts as 0."""
    hits, predicted, true = _thirds(sums)
    return np.asarray(ratio(2 * hits, predicted + true).mean(axis=-1))


def _all_right(logits: Array, labels: Array) -> Floats:
    right = ((logits > 0) == (labels > 0.5)).all(axis=1)
    return np.stack([right, np.ones(len(labels))], axis=1).astype(np.float64)


MICRO_F1 = Metric("micro_f1", "higher", _per_label, _micro_f1, decided=True)
MULTI_LABEL_MACRO_F1 = Metric("macro_f1", "higher", _per_label, _macro_f1_of_labels, decided=True)
SUBSET_ACCURACY = Metric("subset_accuracy", "higher", _all_right, _share, decided=True)

"""Metrics against scikit-learn and scipy, and as functions of sums."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from compressbert.errors import InputError
from compressbert.tasks import metrics as m

RANDOM = np.random.default_rng(0)


def single_label(classes: int, rows: int = 200) -> tuple[np.ndarray, np.ndarray]:
    labels = RANDOM.integers(classes, size=rows)
    logits = RANDOM.normal(size=(rows, classes)) + 1.2 * np.eye(classes)[labels]
    return logits, labels


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_single_label_metrics_equal_scikit_learn(classes: int) -> None:
    logits, labels = single_label(classes)
    predicted = logits.argmax(1)
    assert m.ACCURACY(logits, labels) == pytest.approx(sk.accuracy_score(labels, predicted))
    assert m.BALANCED_ACCURACY(logits, labels) == pytest.approx(sk.balanced_accuracy_score(labels, predicted))
    assert m.MACRO_F1(logits, labels) == pytest.approx(sk.f1_score(labels, predicted, average="macro"))
    assert m.MATTHEWS(logits, labels) == pytest.approx(sk.matthews_corrcoef(labels, predicted))
    if classes == 2:
        assert m.F1(logits, labels) == pytest.approx(sk.f1_score(labels, predicted))


def test_a_class_without_rows_is_left_out_as_scikit_learn_does() -> None:
    logits = np.array([[2.0, 0, 0], [0, 2, 0], [0, 2, 0], [2, 0, 0]])
    labels = np.array([0, 1, 0, 0])
    assert m.MACRO_F1(logits, labels) == pytest.approx(sk.f1_score(labels, logits.argmax(1), average="macro"))
    assert m.BALANCED_ACCURACY(logits, labels) == pytest.approx((2 / 3 + 1) / 2)


def test_matthews_by_hand_and_degenerate() -> None:
    logits = np.array([[0, 1.0], [0, 1], [1, 0], [1, 0], [1, 0]])  # predicts 1 1 0 0 0
    labels = np.array([1, 0, 0, 0, 1])  # tp 1, fp 1, tn 2, fn 1
    assert m.MATTHEWS(logits, labels) == pytest.approx((1 * 2 - 1 * 1) / np.sqrt(2 * 2 * 3 * 3))
    assert m.MATTHEWS(logits, np.zeros(5, dtype=int)) == 0.0


@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_correlations_equal_scipy(shift: float) -> None:
    labels = np.round(RANDOM.uniform(0, 5, size=300), 1)  # with ties
    logits = (labels + RANDOM.normal(size=300) + shift)[:, None]
    assert m.PEARSON(logits, labels) == pytest.approx(
        stats.pearsonr(logits[:, 0], labels).statistic, abs=1e-9
    )
    assert m.SPEARMAN(logits, labels) == pytest.approx(stats.spearmanr(logits[:, 0], labels).statistic)
    assert m.MEAN_SQUARED_ERROR(logits, labels) == pytest.approx(sk.mean_squared_error(labels, logits[:, 0]))


def test_correlation_with_a_constant_is_zero() -> None:
    assert m.PEARSON(np.full((5, 1), 0.1), np.arange(5.0)) == 0.0
    assert m.SPEARMAN(np.arange(5.0)[:, None], np.full(5, 3.3)) == 0.0


def test_multi_label_metrics_equal_scikit_learn() -> None:
    labels = (RANDOM.random((150, 6)) < 0.3).astype(np.float32)
    labels[:, 5] = 0
    logits = RANDOM.normal(size=(150, 6)) + 2 * labels - 1
    logits[:, 5] = -1  # a class that neither occurs nor is predicted
    predicted = logits > 0
    assert m.MICRO_F1(logits, labels) == pytest.approx(sk.f1_score(labels, predicted, average="micro"))
    expected = sk.f1_score(labels, predicted, average="macro", zero_division=0)
    assert m.MULTI_LABEL_MACRO_F1(logits, labels) == pytest.approx(expected)
    assert m.SUBSET_ACCURACY(logits, labels) == pytest.approx(sk.accuracy_score(labels, predicted))


RESAMPLED = [m.ACCURACY, m.BALANCED_ACCURACY, m.MACRO_F1, m.MATTHEWS, m.F1]


@pytest.mark.parametrize("metric", RESAMPLED, ids=lambda metric: metric.name)
def test_a_resample_is_a_weighted_sum(metric: m.Metric) -> None:
    """weights @ statistics is what the metric gives on the resampled rows, for many resamples at once."""
    logits, labels = single_label(2, rows=60)
    draws = RANDOM.integers(60, size=(20, 60))
    weights = np.stack([np.bincount(draw, minlength=60) for draw in draws]).astype(float)
    by_sums = metric.value(weights @ metric.statistics(logits, labels))
    np.testing.assert_allclose(by_sums, [metric(logits[draw], labels[draw]) for draw in draws], atol=1e-12)


def test_a_pearson_resample_is_a_weighted_sum() -> None:
    logits, labels = RANDOM.normal(size=(60, 1)) + 100, RANDOM.normal(size=60)
    draws = RANDOM.integers(60, size=(20, 60))
    weights = np.stack([np.bincount(draw, minlength=60) for draw in draws]).astype(float)
    by_sums = m.PEARSON.value(weights @ m.PEARSON.statistics(logits, labels))
    expected = [stats.pearsonr(logits[draw, 0], labels[draw]).statistic for draw in draws]
    np.testing.assert_allclose(by_sums, expected, atol=1e-9)


def test_no_examples_is_an_error() -> None:
    with pytest.raises(InputError, match="at least one example"):
        m.ACCURACY(np.zeros((0, 2)), np.zeros(0, dtype=int))


def test_precision_and_recall_of_each_label_equal_scikit_learn() -> None:
    names = ("a", "b", "c")
    logits, labels = single_label(3)
    found = {metric.name: metric(logits, labels) for metric in m.label_metrics(names)}
    precision, recall, _, _ = sk.precision_recall_fscore_support(labels, logits.argmax(1))
    assert found == pytest.approx(
        {f"precision[{name}]": precision[i] for i, name in enumerate(names)}
        | {f"recall[{name}]": recall[i] for i, name in enumerate(names)}
    )
    flags = (RANDOM.random((150, 3)) < 0.4).astype(np.float32)
    scores = RANDOM.normal(size=(150, 3)) + flags
    found = {metric.name: metric(scores, flags) for metric in m.label_metrics(names, multi_label=True)}
    precision, recall, _, _ = sk.precision_recall_fscore_support(flags, scores > 0)
    assert found == pytest.approx(
        {f"precision[{name}]": precision[i] for i, name in enumerate(names)}
        | {f"recall[{name}]": recall[i] for i, name in enumerate(names)}
    )


def test_micro_f1_of_one_label_per_row_is_the_accuracy() -> None:
    logits, labels = single_label(4)
    assert m.ACCURACY(logits, labels) == pytest.approx(sk.f1_score(labels, logits.argmax(1), average="micro"))


def test_calibration_error_by_hand() -> None:
    """Ten rows of confidence 0.9 of which six are right: a gap of 0.3, whose mean has the variance 0.24 / 9."""
    logits = np.tile([np.log(0.9), np.log(0.1)], (10, 1))
    labels = np.array([0] * 6 + [1] * 4)
    assert m.CALIBRATION_ERROR(logits, labels) == pytest.approx(np.sqrt(0.3**2 - 0.24 / 9))


def test_calibration_error_of_a_calibrated_model_is_near_zero_and_of_a_sure_one_is_not() -> None:
    generator = np.random.default_rng(3)
    score = generator.normal(0, 3, 20_000)
    labels = (generator.random(20_000) < 1 / (1 + np.exp(-score))).astype(int)
    calibrated = np.stack([np.zeros(20_000), score], axis=1)
    assert m.CALIBRATION_ERROR(calibrated, labels) < 0.004
    confidence = 1 / (1 + np.exp(-np.abs(3 * score)))
    too_sure = np.abs(confidence.mean() - ((score > 0) == labels).mean())
    assert m.CALIBRATION_ERROR(3 * calibrated, labels) == pytest.approx(too_sure, abs=0.01)


def test_noise_is_not_taken_for_bad_calibration() -> None:
    """A calibrated model's error, truly 0, over 300 rows: far below the usual one, which keeps the noise."""
    generator = np.random.default_rng(4)
    found, usual = [], []
    for _ in range(50):
        score = generator.normal(0, 3, 300)
        labels = (generator.random(300) < 1 / (1 + np.exp(-score))).astype(int)
        logits = np.stack([np.zeros(300), score], axis=1)
        found.append(m.CALIBRATION_ERROR(logits, labels))
        gaps = m.CALIBRATION_ERROR.statistics(logits, labels).sum(axis=0)[: m.CALIBRATION_BINS]
        usual.append(np.abs(gaps).sum() / 300)
    assert np.mean(found) < 0.6 * np.mean(usual)

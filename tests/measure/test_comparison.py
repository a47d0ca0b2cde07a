"""What a candidate lost: drop, ratio, flips, McNemar, and whether it is no worse."""

from __future__ import annotations

import numpy as np
import pytest

from compressbert.config.schema import DataConfig
from compressbert.errors import InputError
from compressbert.measure.comparison import compare, noninferiority
from compressbert.measure.flips import margins
from compressbert.measure.quality import predictions, quality_of
from compressbert.results.record import Interval
from compressbert.tasks import metrics as m
from compressbert.tasks.base import task_for
from compressbert.tasks.masked_lm import PERPLEXITY
from tests.measure.test_quality import BINARY, MULTI, REGRESSION, logits_for

MEAN_ERROR = task_for(DataConfig(task="regression", metric="mean_squared_error"), ())


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
    assert (found.drop.value, found.flips, found.mcnemar_p) == (0, (), 1.0)
    # Fifty rows without a difference do not show that there is none: about 3 lost in 50 could have been missed.
    assert 0.02 < found.drop.high < 0.08
    assert found.drop.low == pytest.approx(-found.drop.high, rel=0.1)
    assert found.noninferiority is not None
    assert found.noninferiority.answer == "cannot-tell"


def test_a_model_that_differs_on_no_row_of_many_is_no_worse() -> None:
    labels = np.arange(2000) % 2
    quality = quality_of(logits_for(np.arange(2000) % 9 > 0), labels, BINARY)
    found = compare(quality, quality, labels, BINARY)
    assert found.drop.high < 0.002
    assert found.noninferiority is not None
    assert found.noninferiority.answer == "yes"


@pytest.mark.parametrize(
    ("low", "high", "answer"),
    [(-0.02, 0.009, "yes"), (-0.02, 0.01, "yes"), (0.0, 0.011, "cannot-tell"), (0.01, 0.03, "cannot-tell"),
     (0.0101, 0.03, "no")],
)  # fmt: skip
def test_noninferiority_is_what_the_interval_says(low: float, high: float, answer: str) -> None:
    found = noninferiority(m.ACCURACY, Interval(value=0.0, low=low, high=high), None, 0.01)
    assert found is not None
    assert (found.answer, found.margin, found.relative) == (answer, 0.01, False)


@pytest.mark.parametrize(
    ("low", "high", "answer"), [(0.991, 1.01, "yes"), (0.98, 1.0, "cannot-tell"), (0.9, 0.989, "no")]
)
def test_an_error_has_no_points_so_its_margin_is_a_fraction(low: float, high: float, answer: str) -> None:
    drop = Interval(value=30.0, low=20.0, high=40.0)  # of a perplexity: nothing to hold against 0.01
    found = noninferiority(PERPLEXITY, drop, Interval(value=1.0, low=low, high=high), 0.01)
    assert found is not None
    assert (found.answer, found.relative) == (answer, True)
    assert noninferiority(PERPLEXITY, drop, None, 0.01) is None


def test_every_metric_has_its_drop_from_the_same_resamples() -> None:
    labels = np.arange(400) % 2
    before, after = labels.copy(), labels.copy()
    before[:20], after[:44] = 1 - before[:20], 1 - after[:44]
    qualities = [quality_of(logits_for(p), labels, BINARY) for p in (before, after)]
    found = compare(*qualities, labels, BINARY)
    assert set(found.drops) == {metric.name for metric in BINARY.metrics}
    assert found.drops["accuracy"] == found.drop
    for metric in BINARY.metrics:
        was, now = (metric(quality.logits, labels) for quality in qualities)
        sign = 1 if metric.direction == "higher" else -1
        assert found.drops[metric.name].value == pytest.approx(sign * (was - now))


def test_the_metric_that_was_chosen_is_judged() -> None:
    chosen = task_for(DataConfig(metric="matthews"), BINARY.label_names)
    labels = np.arange(100) % 2
    before, after = labels.copy(), np.where(np.arange(100) < 10, 1 - labels, labels)
    found = compare(*(quality_of(logits_for(p), labels, chosen) for p in (before, after)), labels, chosen)
    assert found.metric == "matthews"
    assert found.drop.value == pytest.approx(0.2)  # ten of a hundred wrong, balanced: 1 - 2 x 0.1


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


def test_where_lower_is_better_a_rise_is_a_drop() -> None:
    labels = np.arange(20, dtype=np.float32)
    offset = [
        quality_of((labels + by * (-1) ** np.arange(20))[:, None].astype(np.float32), labels, REGRESSION)
        for by in (1, 2)
    ]
    found = compare(*offset, labels, MEAN_ERROR)
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

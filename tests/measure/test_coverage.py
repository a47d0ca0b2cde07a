"""The 95 % interval of a difference covers the truth as often as it says: `benchmarks/coverage.py`, shortened."""

from __future__ import annotations

import numpy as np
import pytest

from compressbert.config.schema import DataConfig
from compressbert.measure.statistics import paired_bootstrap
from compressbert.measure.unseen import prior_paired
from compressbert.tasks import metrics as m
from compressbert.tasks.base import task_for

BINARY = task_for(DataConfig(), ("negative", "positive"))
LOST, WON, BOTH_WRONG = 0.03, 0.02, 0.08  # 89 % against 90 %, 5 % of the rows decided differently
TRUE = {
    "accuracy": (WON - LOST, 0.89 / 0.90),
    "matthews": (2 * (WON - LOST), 0.78 / 0.80),  # balanced labels and errors: 2 x accuracy - 1
}


@pytest.mark.parametrize(
    ("metric", "rows", "draws"),
    [(m.ACCURACY, 100, 600), (m.ACCURACY, 872, 400), (m.ACCURACY, 10_000, 150), (m.MATTHEWS, 100, 400)],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_difference_and_ratio_cover_the_truth(metric: m.Metric, rows: int, draws: int) -> None:
    generator = np.random.default_rng(rows)
    covered = np.zeros(2)
    for _ in range(draws):
        labels = generator.integers(2, size=rows)
        chance = generator.random(rows)
        lost, won = chance < LOST, (chance >= LOST) & (chance < LOST + WON)
        both_wrong = (chance >= LOST + WON) & (chance < LOST + WON + BOTH_WRONG)
        decided = [np.where(wrong | both_wrong, 1 - labels, labels) for wrong in (won, lost)]
        tables = [metric.statistics(np.eye(2)[ids], labels) for ids in decided]
        prior = prior_paired(metric, labels, BINARY)
        found = paired_bootstrap(metric, tables[0], tables[1], prior=prior, resamples=1000)
        for index, (interval, truth) in enumerate(zip(found, TRUE[metric.name], strict=True)):
            assert interval is not None
            covered[index] += interval.low <= truth <= interval.high
    spread = 2.5 * np.sqrt(0.95 * 0.05 / draws)  # of the rate itself, in so few draws
    assert (covered / draws > 0.93 - spread).all(), covered / draws
    assert (covered / draws < 0.97 + spread).all(), covered / draws


def test_nothing_lost_in_a_hundred_rows_is_not_nothing_lost() -> None:
    """Rule of three: none of 100 rows lost allows about 3 % with 95 % confidence, 3.6 % one-sided at 2.5 %."""
    labels = np.arange(100) % 2
    table = m.ACCURACY.statistics(np.eye(2)[labels], labels)
    difference, _ = paired_bootstrap(m.ACCURACY, table, table, prior=prior_paired(m.ACCURACY, labels, BINARY))
    assert 0.02 < difference.high < 0.045
    assert -0.045 < difference.low < -0.02


def test_rare_labels_and_many_labels_have_added_rows_that_weigh_the_same() -> None:
    task = task_for(DataConfig(), ("a", "b", "c", "d"))
    labels = np.array([0] * 50 + [1] * 30 + [2])  # no row of d
    prior = prior_paired(m.MACRO_F1, labels, task)
    assert prior is not None
    lost, won = prior.tables[0], prior.tables[1]
    assert lost.shape == won.shape == (6, 12)  # three labels, lost and won; true, predicted, labels of four
    assert prior.weights.sum() == pytest.approx(4 / 3)
    assert prior.weights[:3].tolist() == pytest.approx(
        [2 / 3 * share for share in (50 / 81, 30 / 81, 1 / 81)]
    )
    assert (lost[:3] == won[3:]).all()
    assert prior_paired(m.CALIBRATION_ERROR, labels, task) is None

"""The mean over seeds and its interval."""

from __future__ import annotations

import numpy as np
import pytest

from compressbert.measure.quality import Quality, quality_of
from compressbert.measure.seeds import seed_summary
from tests.measure.test_quality import BINARY, logits_for

LABELS = np.arange(800) % 2


def wrong_in(*rows: range) -> Quality:
    decided = LABELS.copy()
    for chosen in rows:
        decided[list(chosen)] = 1 - decided[list(chosen)]
    return quality_of(logits_for(decided), LABELS, BINARY)


def test_mean_and_deviation_by_hand() -> None:
    found = seed_summary({7: wrong_in(range(80)), 8: wrong_in(range(64)), 9: wrong_in(range(96))}, BINARY)
    assert found.seeds == (7, 8, 9)
    assert found.values == pytest.approx((0.9, 0.92, 0.88))
    assert (found.mean, found.sd) == pytest.approx((0.9, 0.02))
    assert found.interval.low == pytest.approx(0.9 - (found.interval.high - 0.9))


def test_equal_trainings_leave_the_interval_of_the_examples() -> None:
    quality = wrong_in(range(80))
    found = seed_summary(dict.fromkeys(range(3), quality), BINARY)
    alone = quality.results["accuracy"]
    assert found.sd == 0
    assert found.interval.high - found.interval.low == pytest.approx(alone.high - alone.low, rel=0.05)


def test_three_seeds_far_apart_say_little() -> None:
    """Where seeds are all that varies the interval is Student's with two degrees of freedom: 4.30 sd / √3."""
    labels = np.arange(200_000) % 2
    qualities = {}
    for seed, count in enumerate((16_000, 20_000, 24_000)):
        decided = np.where(np.arange(200_000) < count, 1 - labels, labels)
        qualities[seed] = Quality(logits_for(decided), labels, {})
    found = seed_summary(qualities, BINARY)
    assert found.sd == pytest.approx(0.02)
    assert found.interval.high - found.mean == pytest.approx(4.303 * 0.02 / np.sqrt(3), rel=0.02)

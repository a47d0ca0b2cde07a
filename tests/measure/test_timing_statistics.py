"""Intervals of ratios: by hand, and their coverage on simulated timing noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from compressbert.measure.timing_statistics import geometric_interval, ratio_interval, relative_half_width

Floats = NDArray[np.float64]


def test_interval_by_hand() -> None:
    """Logarithms 0 and 2: mean 1, standard error 1, and Student's t for one degree is tan(0.475 π)."""
    found = geometric_interval([1.0, math.exp(2.0)])
    half = math.tan(0.475 * math.pi)
    assert found.value == pytest.approx(math.e)
    assert math.log(found.low) == pytest.approx(1 - half)
    assert math.log(found.high) == pytest.approx(1 + half)


def test_one_round_has_no_interval() -> None:
    with pytest.raises(ValueError, match="at least 2 rounds, got 1"):
        geometric_interval([1.0])


def test_ratio_of_identical_rounds_is_one() -> None:
    rounds = np.random.default_rng(0).lognormal(0, 0.3, 12)
    found = ratio_interval(rounds, rounds)
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_ratio_is_paired_by_round_and_symmetric() -> None:
    generator = np.random.default_rng(1)
    mood = generator.lognormal(0, 1.0, 12)  # the machine slows both alike, by far more than they differ
    baseline = 4 * mood * generator.lognormal(0, 0.01, 12)
    candidate = 2 * mood * generator.lognormal(0, 0.01, 12)
    found = ratio_interval(baseline, candidate)
    assert 1.97 < found.low < 2 < found.high < 2.03
    back = ratio_interval(candidate, baseline)
    assert back.value == pytest.approx(1 / found.value)
    assert (back.low, back.high) == (pytest.approx(1 / found.high), pytest.approx(1 / found.low))


def test_half_width_is_a_fraction_of_the_value() -> None:
    found = ratio_interval([2.0, 2.1, 1.9, 2.0], [1.0, 1.0, 1.0, 1.0])
    assert relative_half_width(found) == pytest.approx((found.high - found.low) / 2 / found.value)

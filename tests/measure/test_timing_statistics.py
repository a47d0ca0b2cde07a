"""Intervals of ratios: by hand, and their coverage on simulated timing noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from compressbert.measure.timing_statistics import (
    geometric_interval,
    interval_around,
    precise_enough,
    ratio_interval,
    relative_half_width,
)

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


def test_a_rounds_ratio_is_the_median_of_its_inputs_ratios() -> None:
    baseline = [[2.0, 40.0, 600.0], [2.0, 40.0, 600.0]]
    candidate = [[1.0, 10.0, 100.0], [2.0, 10.0, 100.0]]  # ratios 2, 4, 6 and 1, 4, 6
    found = ratio_interval(baseline, candidate)
    assert (found.value, found.low, found.high) == (pytest.approx(4), pytest.approx(4), pytest.approx(4))


def test_half_width_is_a_fraction_of_the_value() -> None:
    found = ratio_interval([2.0, 2.1, 1.9, 2.0], [1.0, 1.0, 1.0, 1.0])
    assert relative_half_width(found) == pytest.approx((found.high - found.low) / 2 / found.value)


def test_interval_around_a_value_has_the_scatter_of_the_rounds() -> None:
    scatter = geometric_interval([1.0, 2.0, 4.0])
    found = interval_around(30.0, [1.0, 2.0, 4.0])
    assert found.value == 30.0
    assert found.low == pytest.approx(30.0 * scatter.low / 2.0)
    assert found.high == pytest.approx(30.0 * scatter.high / 2.0)


TURNS, CALLS, TRUE_RATIO = 5, 7, 1.25


def simulated_rounds(runs: int, rounds: int, seed: int, *, fresh: bool = True) -> tuple[Floats, Floats]:
    """Milliseconds (runs, rounds, texts) of baseline and candidate, on a machine as it was found to be.

    A process is faster or slower than another of the same file by 2 %, for as long as it lives (``fresh``: each round
    has processes of its own). The machine drifts from turn to turn, calls have heavy tails, one in ten takes twice
    as long, and one turn in ten is slowed as a whole.
    """
    generator = np.random.default_rng(seed)
    shape = (runs, rounds, 2, TURNS, CALLS)
    process = generator.normal(0, 0.02, (runs, rounds if fresh else 1, 2, 1, 1))
    drift = np.cumsum(generator.normal(0, 0.02, (runs, rounds * TURNS * 2)), axis=1)
    mood = drift.reshape(runs, rounds, TURNS, 2).swapaxes(2, 3)[
        ..., None
    ]  # within a turn, one after the other
    order = generator.random((runs, rounds, 1, TURNS, 1)) < 0.5  # who goes first
    mood = np.where(order, mood, mood[:, :, ::-1])
    calls = process + mood + 0.03 * generator.standard_t(3, shape)
    calls += math.log(2) * (generator.random(shape) < 0.1)
    calls += 0.2 * (generator.random((runs, rounds, 2, TURNS, 1)) < 0.1)
    calls += generator.normal(
        0, 0.5, (runs, rounds, 1, TURNS, CALLS)
    )  # texts of many lengths, the same for both
    texts = np.exp(calls.reshape(runs, rounds, 2, -1))
    return 10.0 * texts[:, :, 0], 10.0 / TRUE_RATIO * texts[:, :, 1]


def coverage(baseline: Floats, candidate: Floats) -> float:
    found = [ratio_interval(before, after) for before, after in zip(baseline, candidate, strict=True)]
    return float(np.mean([interval.low <= TRUE_RATIO <= interval.high for interval in found]))


@pytest.mark.parametrize("rounds", [4, 8, 16])
def test_interval_covers_the_true_ratio(rounds: int) -> None:
    assert 0.93 <= coverage(*simulated_rounds(2000, rounds, seed=rounds)) <= 0.97


def test_rounds_of_one_pair_of_processes_would_not_cover() -> None:
    """Why every round starts processes of its own: the same interval over rounds of one pair misses most truths."""
    assert coverage(*simulated_rounds(500, 8, seed=0, fresh=False)) < 0.75


@pytest.mark.parametrize("precision", [0.02, 0.03, 0.05])
def test_stopping_when_narrow_enough_still_covers(precision: float) -> None:
    covered = stopped = 0
    for before, after in zip(*simulated_rounds(2000, 60, seed=3), strict=True):
        for rounds in range(2, 61):
            found = ratio_interval(before[:rounds], after[:rounds])
            if precise_enough(relative_half_width(found), rounds, precision):
                stopped += 1
                break
        covered += found.low <= TRUE_RATIO <= found.high
    assert stopped > 1900
    assert 0.93 <= covered / 2000 <= 0.97

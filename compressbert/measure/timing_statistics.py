"""Intervals of latencies and of their ratios, from rounds.

A round times every candidate in processes of its own and gives one number for each. Within a process,
calls share what the process was dealt at its start (where its memory came to lie) and the machine's mood;
between rounds everything is dealt anew. So the round is the unit: an interval is Student's t over the
rounds' logarithms, and the number of calls within a round only makes each of those numbers less noisy.
Logarithms, because ratios are what is asked for and so that a comparison read the other way round is the
reciprocal.

Source: Kalibera and Jones, Rigorous Benchmarking in Reasonable Time, ISMM 2013 (levels of repetition).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from compressbert.results.record import Interval

Floats = NDArray[np.float64]
LEVEL = 0.95
FEWEST_ROUNDS = 8


def geometric_interval(rounds: ArrayLike, *, level: float = LEVEL) -> Interval:
    """Geometric mean of one positive number a round, (R,) with R >= 2, with its interval.

    Raises ValueError for fewer than two rounds, which have no spread to judge by.
    """
    logs = np.log(np.asarray(rounds, dtype=np.float64))
    if len(logs) < 2:
        raise ValueError(f"An interval takes at least 2 rounds, got {len(logs)}.")
    middle, half = float(logs.mean()), _half_width(logs, level)
    return Interval(value=math.exp(middle), low=math.exp(middle - half), high=math.exp(middle + half))


def interval_around(value: float, rounds: ArrayLike, *, level: float = LEVEL) -> Interval:
    """``value``, taken from all rounds together, with the relative interval of its per-round counterparts."""
    scatter = geometric_interval(rounds, level=level)
    return Interval(
        value=value, low=value * scatter.low / scatter.value, high=value * scatter.high / scatter.value
    )


def ratio_interval(
    baseline: Sequence[ArrayLike], candidate: Sequence[ArrayLike], *, level: float = LEVEL
) -> Interval:
    """Speed-up ``baseline / candidate`` with its interval.

    Args:
        baseline: For each round the milliseconds of its inputs (texts, or batches), (N,).
        candidate: The same of the same inputs at the same places, in the same rounds.
        level: Of the interval.

    A round's ratio is the median of its inputs' ratios. Each was timed for both within a moment, so a slow minute of
    the machine slows both and cancels; and a median over ratios, unlike a ratio of medians, does not hang on the two
    or three texts whose length is in the middle.
    """
    logs = [
        np.median(np.log(before) - np.log(after)) for before, after in zip(baseline, candidate, strict=True)
    ]
    return geometric_interval(np.exp(logs), level=level)


def relative_half_width(interval: Interval) -> float:
    """Half of an interval's width as a fraction of its value: 0.03 is ± 3 %."""
    return (interval.high - interval.low) / (2 * interval.value)


def precise_enough(half_width: float, rounds: int, precision: float) -> bool:
    """Whether a run that looks after every round may stop.

    Stopping as soon as the interval is narrow favours rounds that scatter little by chance. With eight rounds at
    least that costs a point of coverage at most (tests/measure/test_timing_statistics.py); with fewer it costs more.
    """
    return rounds >= FEWEST_ROUNDS and half_width <= precision


def _half_width(logs: Floats, level: float) -> float:
    return _quantile(len(logs) - 1, level) * float(logs.std(ddof=1)) / math.sqrt(len(logs))


def _quantile(freedom: int, level: float) -> float:
    return float(stdtrit(freedom, 0.5 + level / 2))

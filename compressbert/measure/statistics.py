"""Intervals and tests: paired bootstrap over examples, exact McNemar, ratios of latency paired by round.

A metric is a function of sums of per-example statistics (`tasks/metrics.py`). A bootstrap resample changes
only how often each example enters the sums, so all resamples together are one product ``counts @
statistics``. Numpy only.

Sources: Efron and Tibshirani, *An Introduction to the Bootstrap* (1993), chapter 13 (percentile intervals);
McNemar, Psychometrika 12 (1947), in its exact binomial form.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from compressbert.results.record import Interval

Floats = NDArray[np.float64]

RESAMPLES = 10_000
SEED = 20_200_227
_CHUNK_DRAWS = 4_000_000  # examples drawn at a time: 32 MB of counts
_FEW_PATTERNS = 200  # up to here, drawing how often each pattern occurs beats drawing rows


class SumMetric(Protocol):
    """The part of a metric a bootstrap needs."""

    def value(self, sums: Floats, /) -> Floats:
        """Metric of sums (..., k), as (...)."""


def bootstrap_sums(statistics: ArrayLike, *, resamples: int = RESAMPLES, seed: int = SEED) -> Floats:
    """Sums of ``statistics`` (N, k) over ``resamples`` draws of N rows with replacement, as (resamples, k).

    Rows with equal statistics are interchangeable. Where few patterns exist (right or wrong), the draws are
    made from the multinomial distribution of the patterns: the same distribution of sums, at a cost that
    does not grow with N.
    """
    table = np.asarray(statistics, dtype=np.float64)
    rows = table.shape[0]
    generator = np.random.default_rng(seed)
    patterns, occurrences = np.unique(table, axis=0, return_counts=True)
    if len(patterns) <= _FEW_PATTERNS:
        return generator.multinomial(rows, occurrences / rows, size=resamples) @ patterns
    sums = np.empty((resamples, table.shape[1]))
    step = max(1, _CHUNK_DRAWS // rows)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = generator.integers(0, rows, size=(size, rows), dtype=np.int32)
        drawn += (np.arange(size, dtype=np.int32) * rows)[:, None]  # each resample counts into its own bins
        counts = np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows)
        sums[start : start + size] = counts.astype(np.float64) @ table
    return sums


def bootstrap(
    metric: SumMetric, statistics: ArrayLike, *, resamples: int = RESAMPLES, seed: int = SEED
) -> Floats:
    """Values of ``metric`` on resampled examples, as (resamples,)."""
    return metric.value(bootstrap_sums(statistics, resamples=resamples, seed=seed))


def interval(value: float, samples: ArrayLike, *, level: float = 0.95) -> Interval:
    """``value`` with the percentile interval of its bootstrap ``samples``."""
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(np.asarray(samples, dtype=np.float64), [tail, 100.0 - tail])
    return Interval(value=float(value), low=float(low), high=float(high))


def metric_interval(metric: SumMetric, statistics: ArrayLike) -> Interval:
    """A metric on all examples, statistics (N, k), with its 95 % interval."""
    table = np.asarray(statistics, dtype=np.float64)
    return interval(float(metric.value(table.sum(axis=0))), bootstrap(metric, table))


def paired_bootstrap(
    metric: SumMetric,
    baseline: ArrayLike,
    candidate: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> tuple[Interval, Interval | None]:
    """Difference ``candidate - baseline`` and ratio ``candidate / baseline``, from the same resamples of
    both.

    Args:
        metric: The metric of both.
        baseline: Its statistics (N, k).
        candidate: Statistics (N, k) on the same examples in the same order.
        resamples: Number of draws.
        seed: Seed of the draws.

    Returns:
        The difference, and the ratio or None where the baseline (or a resample of it) is not positive.
    """
    table = np.concatenate([np.asarray(baseline, np.float64), np.asarray(candidate, np.float64)], axis=1)
    sums = np.vstack([table.sum(axis=0), bootstrap_sums(table, resamples=resamples, seed=seed)])
    width = table.shape[1] // 2
    before, after = metric.value(sums[:, :width]), metric.value(sums[:, width:])
    difference = after - before
    ratio = None
    if bool(np.all(before > 0)):
        ratios = after / before
        ratio = interval(ratios[0], ratios[1:])
    return interval(difference[0], difference[1:]), ratio


def mcnemar_exact(baseline_correct: ArrayLike, candidate_correct: ArrayLike) -> float:
    """Two-sided p of the exact McNemar test: could the discordant pairs be a fair coin's?"""
    before, after = np.asarray(baseline_correct, bool), np.asarray(candidate_correct, bool)
    lost, won = int(np.sum(before & ~after)), int(np.sum(~before & after))
    pairs = lost + won
    log_terms = [
        math.lgamma(pairs + 1) - math.lgamma(k + 1) - math.lgamma(pairs - k + 1) - pairs * math.log(2.0)
        for k in range(min(lost, won) + 1)
    ]
    return min(1.0, 2.0 * math.fsum(math.exp(term) for term in log_terms))


def _resampled_medians(values: Floats, resamples: int, seed: int) -> Floats:
    drawn = np.random.default_rng(seed).integers(0, len(values), size=(resamples, len(values)))
    medians: Floats = np.median(values[drawn], axis=1)
    return medians


def median_interval(rounds: ArrayLike, *, resamples: int = RESAMPLES, seed: int = SEED) -> Interval:
    """Median of per-round values with its 95 % interval.

    The round is what is resampled, since calls within a round share the machine's mood.
    """
    values = np.asarray(rounds, dtype=np.float64)
    return interval(float(np.median(values)), _resampled_medians(values, resamples, seed))


def ratio_by_round_interval(
    baseline_rounds: ArrayLike, candidate_rounds: ArrayLike, *, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval:
    """Speed-up ``baseline / candidate``: the median over rounds of the ratio within a round, with its 95 %
    interval.

    Both were timed in the same rounds, so a slow minute of the machine slows both and cancels. Logarithms
    make the answer the reciprocal of itself when the two change places.
    """
    logs = np.log(np.asarray(baseline_rounds, np.float64)) - np.log(np.asarray(candidate_rounds, np.float64))
    found = median_interval(logs, resamples=resamples, seed=seed)
    return Interval(value=math.exp(found.value), low=math.exp(found.low), high=math.exp(found.high))

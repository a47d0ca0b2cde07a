"""Intervals and tests: paired bootstrap over examples, exact McNemar.

A metric is a function of sums of per-example statistics (`tasks/metrics.py`). A resample changes only how much
each example weighs in the sums, so all resamples together are one product ``weights @ statistics``. Numpy only.

Intervals over examples come from the Bayesian bootstrap: weights are drawn from a Dirichlet distribution and not
as whole counts. `docs/measuring.md` says why, with the coverage of the alternatives (`benchmarks/coverage.py`).

Sources: Efron and Tibshirani, *An Introduction to the Bootstrap* (1993), chapter 13 (percentile intervals);
Rubin, Annals of Statistics 9 (1981) (Bayesian bootstrap); Bonett and Price, Journal of Educational and Behavioral
Statistics 37 (2012) (rows added to paired proportions); McNemar, Psychometrika 12 (1947), in its exact form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from compressbert.results.record import Interval

Floats = NDArray[np.float64]

RESAMPLES = 10_000
SEED = 20_200_227
_CHUNK_DRAWS = 2_000_000  # weights drawn at a time: 16 MB
_FEW_PATTERNS = 200  # up to here, drawing the weight of each pattern beats drawing that of each row


class SumMetric(Protocol):
    """The part of a metric a bootstrap needs."""

    @property
    def noisy(self) -> bool:
        """Whether resamples lie above the value on average."""

    def value(self, sums: Floats, /) -> Floats:
        """Metric of sums (..., k), as (...)."""


@dataclass(frozen=True)
class Prior:
    """Rows that might have been seen and were not, as a fraction of a row each.

    Attributes:
        tables: Statistics (P, k) of the added rows, one table for each that is resampled together.
        weights: How much of a row each is, (P,).
    """

    tables: tuple[Floats, ...]
    weights: Floats

    def repeated(self, times: int) -> Prior:
        """The same rows for several tables."""
        return Prior(self.tables * times, self.weights)


def resampled_sums(
    *tables: ArrayLike, prior: Prior | None = None, resamples: int = RESAMPLES, seed: int = SEED
) -> tuple[Floats, ...]:
    """Sums of each table (N, k) over the same ``resamples`` random weightings of its rows, each (resamples, k).

    A row's weight is drawn from a gamma distribution of shape 1 (an added row's of its own weight) and all are
    scaled to sum to N. Rows that are equal in every table share one draw of the summed shape, which is the same
    distribution at a cost that does not grow with N.
    """
    rows = [np.asarray(table, dtype=np.float64) for table in tables]
    added = prior.tables if prior is not None else tuple(table[:0] for table in rows)
    shapes = np.concatenate([np.ones(len(rows[0])), prior.weights if prior is not None else []])
    full = [np.concatenate(pair) for pair in zip(rows, added, strict=True)]
    generator = np.random.default_rng(seed)
    first, inverse = np.unique(np.hstack(full), axis=0, return_index=True, return_inverse=True)[1:]
    if len(first) <= _FEW_PATTERNS:
        drawn = generator.standard_gamma(
            np.bincount(inverse.reshape(-1), weights=shapes), size=(resamples, len(first))
        )
        drawn *= len(rows[0]) / drawn.sum(axis=1, keepdims=True)
        return tuple(drawn @ table[first] for table in full)
    sums = tuple(np.empty((resamples, table.shape[1])) for table in full)
    step = max(1, _CHUNK_DRAWS // len(shapes))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        own = generator.standard_exponential((size, len(rows[0])))
        others = generator.standard_gamma(shapes[len(rows[0]) :], size=(size, len(added[0])))
        drawn = np.concatenate([own, others], axis=1)
        drawn *= len(rows[0]) / drawn.sum(axis=1, keepdims=True)
        for total, table in zip(sums, full, strict=True):
            total[start : start + size] = drawn @ table
    return sums


def interval(value: float, samples: ArrayLike, *, level: float = 0.95, centred: bool = False) -> Interval:
    """``value`` with the percentile interval of its bootstrap ``samples``, widened to hold the value.

    ``centred`` moves the samples so that their mean is the value (see `tasks/metrics.py`: noisy metrics).
    """
    tail = 50.0 * (1.0 - level)
    drawn = np.asarray(samples, dtype=np.float64)
    low, high = np.percentile(drawn + (value - drawn.mean()) if centred else drawn, [tail, 100.0 - tail])
    return Interval(
        value=float(value), low=min(float(low), float(value)), high=max(float(high), float(value))
    )


def negated(found: Interval) -> Interval:
    """The interval of the opposite; 0 - x and not -x, so that nothing is not written as -0.0."""
    return Interval(value=0 - found.value, low=0 - found.high, high=0 - found.low)


def metric_interval(
    metric: SumMetric, statistics: ArrayLike, *, prior: Prior | None = None, resamples: int = RESAMPLES
) -> Interval:
    """A metric on all examples, statistics (N, k), with its 95 % interval."""
    table = np.asarray(statistics, dtype=np.float64)
    (sums,) = resampled_sums(table, prior=prior, resamples=resamples)
    return interval(float(metric.value(table.sum(axis=0))), metric.value(sums), centred=metric.noisy)


def paired_bootstrap(
    metric: SumMetric,
    baseline: ArrayLike,
    candidate: ArrayLike,
    *,
    prior: Prior | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> tuple[Interval, Interval | None]:
    """Difference ``candidate - baseline`` and ratio ``candidate / baseline``, from the same resamples of
    both.

    Args:
        metric: The metric of both.
        baseline: Its statistics (N, k).
        candidate: Statistics (N, k) on the same examples in the same order.
        prior: Rows added to both.
        resamples: Number of draws.
        seed: Seed of the draws.

    Returns:
        The difference, and the ratio or None where the baseline (or a resample of it) is not positive.
    """
    tables = [np.asarray(table, np.float64) for table in (baseline, candidate)]
    drawn = resampled_sums(*tables, prior=prior, resamples=resamples, seed=seed)
    return paired_intervals(metric, tables, drawn)


def paired_intervals(
    metric: SumMetric, tables: Sequence[Floats], drawn: Sequence[Floats]
) -> tuple[Interval, Interval | None]:
    """`paired_bootstrap` from sums (resamples, k) of both tables that were drawn already."""
    before, after = (
        metric.value(np.vstack([table.sum(axis=0), sums])) for table, sums in zip(tables, drawn, strict=True)
    )
    difference = interval(after[0] - before[0], (after - before)[1:], centred=metric.noisy)
    if not bool(np.all(before > 0)):
        return difference, None
    ratios = after / before
    return difference, interval(ratios[0], ratios[1:], centred=metric.noisy)


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

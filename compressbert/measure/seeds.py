"""What several trainings with different seeds say together."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from scipy.special import stdtrit

from compressbert.measure.quality import Quality
from compressbert.measure.statistics import resampled_sums
from compressbert.measure.unseen import prior_alone
from compressbert.results.record import Interval, SeedSummary
from compressbert.tasks.base import Task, primary


def seed_summary(qualities: Mapping[int, Quality], task: Task) -> SeedSummary:
    """The primary metric of each seed, its mean and standard deviation, and the mean's 95 % interval.

    The interval is for the mean over all seeds and all rows there might have been: its variance is that of the
    seeds' mean plus that of the examples (by the bootstrap, all seeds on the same resamples), and its width that
    of a t distribution with the degrees of freedom of such a sum (Satterthwaite, Biometrics Bulletin 2, 1946).
    With three seeds that is wide: three trainings say little about the next one.

    Args:
        qualities: At least two seeds, each with the quality of its model on the same rows.
        task: The task.
    """
    metric = primary(task)
    labels = next(iter(qualities.values())).labels
    tables = [metric.statistics(found.logits, labels) for found in qualities.values()]
    values = np.array([metric.value(table.sum(axis=0)) for table in tables])
    alone = prior_alone(metric, labels, task)
    prior = alone.repeated(len(tables)) if alone is not None else None
    drawn = resampled_sums(*tables, prior=prior)
    of_examples = float(np.var(np.mean([metric.value(sums) for sums in drawn], axis=0)))
    sd = float(values.std(ddof=1))
    of_seeds = sd**2 / len(values)
    half = _quantile(of_seeds, len(values) - 1, of_examples, len(labels) - 1)
    mean = float(values.mean())
    return SeedSummary(
        seeds=tuple(qualities),
        values=tuple(float(value) for value in values),
        mean=mean,
        sd=sd,
        interval=Interval(value=mean, low=mean - half, high=mean + half),
    )


def _quantile(first: float, first_degrees: int, second: float, second_degrees: int) -> float:
    """Half width of the 95 % interval of a mean whose variance is the sum of two estimated ones."""
    total = first + second
    if total == 0:
        return 0.0
    degrees = total**2 / (first**2 / first_degrees + second**2 / max(second_degrees, 1))
    return float(stdtrit(degrees, 0.975)) * math.sqrt(total)

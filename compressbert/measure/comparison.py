"""What a candidate lost against its baseline, on the same rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressbert.errors import InputError
from compressbert.measure.quality import Quality, decided, right_rows
from compressbert.measure.statistics import (
    Floats,
    mcnemar_exact,
    negated,
    paired_intervals,
    resampled_sums,
)
from compressbert.measure.unseen import prior_paired
from compressbert.results.record import Comparison, Interval, NonInferiority
from compressbert.tasks.base import Task, primary
from compressbert.tasks.metrics import Metric

MARGIN = 0.01


def compare(
    baseline: Quality, candidate: Quality, labels: NDArray[Any], task: Task, *, margin: float = MARGIN
) -> Comparison:
    """What ``candidate`` lost against ``baseline`` in the task's primary metric and the others.

    A drop is in units of the metric and positive for a loss; retained is a fraction, 1 for no loss,
    whether higher or lower is better.

    Args:
        baseline: Quality of the baseline.
        candidate: Quality of the candidate on the same rows.
        labels: The rows' labels.
        task: The task of both.
        margin: What the non-inferiority statement allows to be lost.

    Raises:
        InputError: The two were not run on the same rows.
    """
    if not len(baseline.logits) == len(candidate.logits) == len(labels):
        raise InputError(
            f"A comparison needs the same rows: the baseline has {len(baseline.logits)}, the candidate "
            f"{len(candidate.logits)}, and there are {len(labels)} labels.",
            hint="Evaluate both on the same data.",
        )
    losses = _losses(baseline, candidate, labels, task)
    judged = primary(task)
    drop, retained = losses[judged.name]
    old, new = decided(baseline, task), decided(candidate, task)
    flips = p = wrong = right = None
    if old is not None and new is not None:
        changed = (old != new).reshape(len(old), -1).any(axis=1)
        flips = tuple(int(row) for row in np.flatnonzero(changed))
        was, now = right_rows(baseline, old), right_rows(candidate, new)
        wrong, right = int((was & ~now).sum()), int((now & ~was).sum())
        p = mcnemar_exact(was, now) if task.kind == "sequence-classification" else None
    return Comparison(
        metric=judged.name,
        retained=retained,
        drop=drop,
        drops={name: lost for name, (lost, _) in losses.items()},
        flips=flips,
        newly_wrong=wrong,
        newly_right=right,
        mcnemar_p=p,
        noninferiority=noninferiority(judged, drop, retained, margin),
    )


def noninferiority(
    metric: Metric, drop: Interval, retained: Interval | None, margin: float
) -> NonInferiority | None:
    """Whether no more than ``margin`` was lost: yes if the whole 95 % interval says so, no if none of it does.

    Each answer is therefore a one-sided test at 2.5 %. A metric without bounds (an error, a perplexity) has no
    points; there the margin is a fraction of the baseline. None where that ratio does not exist.
    """
    low, high = drop.low, drop.high
    if not metric.bounded:
        if retained is None or retained.low <= 0:
            return None
        low, high = 1 / retained.high - 1, 1 / retained.low - 1
    answer = "yes" if high <= margin else "no" if low > margin else "cannot-tell"
    return NonInferiority.model_validate({"margin": margin, "relative": not metric.bounded, "answer": answer})


def _losses(
    baseline: Quality, candidate: Quality, labels: NDArray[Any], task: Task
) -> dict[str, tuple[Interval, Interval | None]]:
    """Drop and retained of every metric. Metrics with the same statistics share their resamples."""
    shared: dict[Any, tuple[tuple[Floats, Floats], tuple[Floats, ...]]] = {}
    found = {}
    for metric in task.metrics:
        key = metric.statistics
        if key not in shared:
            tables = (
                metric.statistics(baseline.logits, labels),
                metric.statistics(candidate.logits, labels),
            )
            shared[key] = tables, resampled_sums(*tables, prior=prior_paired(metric, labels, task))
        found[metric.name] = _loss(metric, *shared[key])
    return found


def _loss(
    metric: Metric, tables: tuple[Floats, Floats], drawn: tuple[Floats, ...]
) -> tuple[Interval, Interval | None]:
    difference, ratio = paired_intervals(metric, tables, drawn)
    if metric.direction == "lower":
        _, retained = paired_intervals(metric, tables[::-1], drawn[::-1])
        return difference, retained
    return negated(difference), ratio

"""Parts of the rows where a candidate loses more than on the rest.

Every slice is compared with all other rows by a permutation test: the rows' losses stay, who belongs to the slice is
dealt anew. The statistic is studentized, so that the test holds also where the slice merely varies more than the
rest (Janssen, Statistics and Probability Letters 36, 1997). All slices of a comparison are corrected together (Holm,
Scandinavian Journal of Statistics 6, 1979): the chance to name any slice that is no worse is at most 5 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressbert.errors import InputError
from compressbert.measure.quality import Quality
from compressbert.measure.statistics import RESAMPLES, SEED, Floats, Prior, negated, paired_bootstrap
from compressbert.measure.unseen import prior_paired
from compressbert.results.record import Interval, Slice
from compressbert.tasks.base import Task
from compressbert.tasks.entities import TAG_ACCURACY
from compressbert.tasks.masked_lm import MASKED_ACCURACY
from compressbert.tasks.metrics import ACCURACY, MEAN_SQUARED_ERROR, SUBSET_ACCURACY, Metric
from compressbert.tasks.spans import ANSWER_F1

LEAST = 30  # rows of a slice, and of the rest
LEVEL = 0.05
_FEW_LOSSES = 50  # distinct losses up to which the rows of a slice are dealt by kind
_CHUNK_ROWS = 2_000_000

# A mean over rows, whatever the primary metric: Matthews or F1 of rows of one label is no quality.
MEANS = {
    "sequence-classification": ACCURACY,
    "multi-label": SUBSET_ACCURACY,
    "regression": MEAN_SQUARED_ERROR,
    "token-classification": TAG_ACCURACY,
    "question-answering": ANSWER_F1,
    "sentence-embedding": MEAN_SQUARED_ERROR,
    "masked-lm": MASKED_ACCURACY,
}


@dataclass(frozen=True)
class Group:
    """Rows that share something: ``rows`` is a mask (N,)."""

    name: str
    by: str
    rows: NDArray[np.bool_]


def label_groups(labels: NDArray[Any], task: Task) -> Iterator[Group]:
    """Rows by their label; rows that have a label, for multi-label; by quarters of the value, for regression.

    None where rows have more than one label, or none.
    """
    if task.per_token:
        return
    if task.kind in ("regression", "sentence-embedding"):
        yield from column_groups("label", labels.reshape(len(labels)).tolist())
        return
    for index, name in enumerate(task.label_names):
        rows = labels[:, index] > 0.5 if labels.ndim > 1 else labels == index
        yield Group(f"label={name}", "label", rows)


def length_groups(lengths: Sequence[int] | NDArray[Any]) -> Iterator[Group]:
    """Rows by their number of word pieces, in bins that end at powers of two (so names stay as data grow)."""
    counts = np.asarray(lengths)
    low, high = 1, 8
    while low <= counts.max():
        yield Group(f"length {low}-{high}", "length", (counts >= low) & (counts <= high))
        low, high = high + 1, 2 * high


_MOST_VALUES = 50


def column_groups(column: str, values: Sequence[Any]) -> Iterator[Group]:
    """Rows by the value of a column. Numbers of more than ten values go by quarters.

    Raises:
        InputError: No value has enough rows, as in a column of ids.
    """
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if numbers and len(set(values)) > 10:
        yield from _quarters(column, np.asarray(values, dtype=np.float64))
        return
    written = np.array(["(none)" if value is None else str(value) for value in values], dtype=object)
    found, counts = np.unique(written.astype(str), return_counts=True)
    common = [str(value) for value in found[np.argsort(-counts, kind="stable")][:_MOST_VALUES]]
    enough = sorted(value for value in common if (written == value).sum() >= LEAST)
    if not enough:
        raise InputError(
            f"column {column!r}: none of its {len(found):,} values has {LEAST} rows, so there is no slice",
            hint="Slice by a column with few values.",
        )
    for value in enough:
        yield Group(f"{column}={value}", column, written == value)


def _quarters(column: str, values: Floats) -> Iterator[Group]:
    edges = np.unique(np.quantile(values, [0, 0.25, 0.5, 0.75, 1]))
    for low, high in pairwise(edges):
        first = low == edges[0]
        rows = (values >= low if first else values > low) & (values <= high)
        yield Group(f"{column} {'' if first else '>'}{low:.4g} to {high:.4g}", column, rows)


def judge_slices(
    groups: Sequence[Group], *, baseline: Quality, candidate: Quality, labels: NDArray[Any], task: Task
) -> tuple[Slice, ...]:
    """What was lost in each group, and whether it is more than on the rest of the rows.

    Groups of fewer than `LEAST` rows are left out; one that leaves fewer for the rest is not tested.
    """
    metric = MEANS[task.kind]
    before = metric.statistics(baseline.logits, labels)
    after = metric.statistics(candidate.logits, labels)
    sign = 1.0 if metric.direction == "higher" else -1.0
    kept = [group for group in groups if group.rows.sum() >= LEAST]
    tested = [group for group in kept if (~group.rows).sum() >= LEAST]
    raw = slice_p_values(sign * (before - after)[:, 0], before[:, 1], [group.rows for group in tested])
    corrected = dict(zip((group.name for group in tested), holm(raw), strict=True))
    found = []
    for group in kept:
        rows, p = group.rows, corrected.get(group.name)
        drop = _drop(metric, before[rows], after[rows], prior_paired(metric, labels[rows], task))
        found.append(
            Slice(
                name=group.name,
                by=group.by,
                metric=metric.name,
                examples=int(rows.sum()),
                baseline=float(metric.value(before[rows].sum(axis=0))),
                candidate=float(metric.value(after[rows].sum(axis=0))),
                drop=drop,
                p=p,
                worse=p is not None and p < LEVEL and drop.value > 0,
            )
        )
    return tuple(found)


def _drop(metric: Metric, before: Floats, after: Floats, prior: Prior | None) -> Interval:
    difference, _ = paired_bootstrap(metric, before, after, prior=prior)
    return difference if metric.direction == "lower" else negated(difference)


def slice_p_values(
    losses: Floats,
    weights: Floats,
    masks: Sequence[NDArray[np.bool_]],
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[float]:
    """One-sided p of each slice: of losing this much more than the rest if it were no worse.

    Args:
        losses: Loss of each row (N,): a sum over what the row holds, positive for a loss.
        weights: How much each row holds (N,): 1, or the words of a row that are scored.
        masks: Rows of each slice (N,).
        resamples: Times the rows are dealt anew.
        seed: Seed of the dealing.
    """
    rest = losses - weights * (losses.sum() / weights.sum())  # residuals of one common loss
    kinds, counts = np.unique(rest, return_counts=True)
    generator = np.random.default_rng(seed)
    found = []
    for mask in masks:
        size = int(mask.sum())
        if len(kinds) <= _FEW_LOSSES:
            drawn = generator.multivariate_hypergeometric(counts, size, size=resamples)
            dealt = drawn @ kinds, drawn @ kinds**2
        else:
            dealt = _dealt(rest, size, resamples, generator)
        actual = rest[mask].sum(), (rest[mask] ** 2).sum()
        statistics = [_studentized(*sums, size, rest) for sums in (dealt, actual)]
        above = int((statistics[0] >= statistics[1] - 1e-9).sum())
        found.append((1 + above) / (1 + resamples))
    return found


def _dealt(
    values: Floats, size: int, resamples: int, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Sums of values and of squares of ``size`` random rows, many times."""
    step = max(1, _CHUNK_ROWS // len(values))
    sums, squares = np.empty(resamples), np.empty(resamples)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        chosen = generator.permuted(np.broadcast_to(values, (count, len(values))), axis=1)[:, :size]
        sums[start : start + count] = chosen.sum(axis=1)
        squares[start : start + count] = (chosen**2).sum(axis=1)
    return sums, squares


def _studentized(inside: Any, inside_squares: Any, size: int, values: Floats) -> Any:
    """Mean inside minus mean outside, over the standard error of that difference; 0 if nothing varies."""
    others = len(values) - size
    mean, other_mean = inside / size, (values.sum() - inside) / others
    variance = inside_squares / size - mean**2
    other_variance = ((values**2).sum() - inside_squares) / others - other_mean**2
    error = np.sqrt(np.maximum(variance, 0) / size + np.maximum(other_variance, 0) / others)
    return np.divide(mean - other_mean, error, out=np.zeros_like(np.asarray(error)), where=error > 1e-12)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's corrected p-values, in the order given."""
    order = np.argsort(p_values, kind="stable")
    corrected, least = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = least
    return corrected

"""Quality of an artefact on labelled data, and what a candidate lost against its baseline."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from compressbert.data.batches import ordered_batches
from compressbert.errors import InputError, WorkError
from compressbert.measure.runners import Runner
from compressbert.measure.statistics import mcnemar_exact, metric_interval, paired_bootstrap
from compressbert.progress import track
from compressbert.results.measured import Comparison
from compressbert.results.record import Interval, MetricResult
from compressbert.tasks.base import Task
from compressbert.tasks.metrics import Metric

if TYPE_CHECKING:
    from compressbert.data.encode import Encoded
    from compressbert.data.read import Split

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Quality:
    """Logits (N, C) in row order, and every metric of the task with its 95 % interval.

    Logits over a vocabulary would not fit in memory: for masked-lm the columns hold instead
    what the metrics sum (`tasks/metrics.py`), those of one metric after those of the other.
    """

    logits: Logits
    results: dict[str, MetricResult]


def evaluate(artefact: Runner, task: Task, encoded: Encoded, *, batch_size: int = 64) -> Quality:
    """Run ``artefact`` on every row and compute the task's metrics.

    Rows go in batches of similar length, always the same ones: a model with int8 activations scales them
    per batch, so its logits may differ in the last digits from those of single sentences.

    Raises:
        InputError: The rows carry no labels, or the artefact wants an input that the rows do not have.
        WorkError: A logit is not a number.
    """
    logits: Logits | None = None
    batches = ordered_batches(encoded, batch_size=batch_size, pad_id=artefact.limits.pad_id)
    with track("evaluate", total=len(encoded), unit="rows") as progress:
        for batch in batches:
            inputs = {name: tensor.numpy() for name, tensor in batch.inputs.items()}
            answer = artefact.predict(inputs)
            if task.kind == "masked-lm" and batch.labels is not None:
                labels = batch.labels.numpy()
                answer = np.hstack([metric.statistics(answer, labels) for metric in task.metrics])
            if logits is None:
                logits = np.empty((len(encoded), *answer.shape[1:]), np.float32)
            logits[batch.examples.numpy()] = answer
            progress.advance(len(answer))
    if logits is None:
        raise InputError(
            "There are no rows to evaluate.", hint="Give a validation file with at least one row."
        )
    return quality_of(logits, labels_of(encoded), task)


def labels_of(encoded: Encoded) -> NDArray[Any]:
    """Labels in row order; zeros for masked-lm, which needs none. Raises InputError without labels."""
    if encoded.masking is not None:
        return np.zeros(len(encoded), np.int64)
    if encoded.labels is None:
        raise InputError(
            "The rows have no labels, so there is no quality to measure.",
            hint="Name the label column: --columns label=NAME, or data.columns.label.",
        )
    return np.asarray(encoded.labels)


def quality_of(logits: Logits, labels: NDArray[Any], task: Task) -> Quality:
    """Metrics of ``logits`` (N, C) against ``labels``. Raises WorkError for a logit that is not a number."""
    bad = np.flatnonzero(~np.isfinite(logits.reshape(len(logits), -1)).all(axis=1))
    if len(bad):
        raise WorkError(
            f"{len(bad)} of {len(logits)} rows have logits that are not numbers, the first is row {bad[0]}.",
            hint="The weights hold NaN or infinity: train with a lower learning rate, or in fp32.",
        )
    results = {}
    for metric in task.metrics:
        found = metric_interval(metric, _statistics(metric, logits, labels, task))
        results[metric.name] = MetricResult(
            **found.model_dump(), direction=metric.direction, examples=len(labels)
        )
    return Quality(logits=logits, results=results)


def _statistics(metric: Metric, logits: Logits, labels: NDArray[Any], task: Task) -> NDArray[np.float64]:
    if task.kind != "masked-lm":
        return metric.statistics(logits, labels)
    columns = np.hsplit(logits.astype(np.float64), len(task.metrics))
    return columns[[other.name for other in task.metrics].index(metric.name)]


def predictions(logits: Logits, task: Task) -> NDArray[Any] | None:
    """What logits (N, C) decide: label ids (N,), or 0/1 flags (N, C); None where nothing is classified."""
    if task.kind == "sequence-classification":
        decided: NDArray[Any] = logits.argmax(axis=-1)
        return decided
    if task.kind == "multi-label":
        return np.asarray(logits > 0, dtype=np.int64)
    return None


def compare(baseline: Quality, candidate: Quality, labels: NDArray[Any], task: Task) -> Comparison:
    """What ``candidate`` lost against ``baseline`` in the task's primary metric, on the same rows.

    The drop is in units of the metric and positive for a loss; retained is a fraction, 1 for no loss,
    whether higher or lower is better. Raises InputError if the two were not run on the same rows.
    """
    if not len(baseline.logits) == len(candidate.logits) == len(labels):
        raise InputError(
            f"A comparison needs the same rows: the baseline has {len(baseline.logits)}, the candidate "
            f"{len(candidate.logits)}, and there are {len(labels)} labels.",
            hint="Evaluate both on the same data.",
        )
    metric = next(metric for metric in task.metrics if metric.name == task.primary_metric)
    before, after = (_statistics(metric, quality.logits, labels, task) for quality in (baseline, candidate))
    if metric.direction == "higher":
        difference, retained = paired_bootstrap(metric, before, after)
        # 0 - x and not -x, so that no loss is not written as -0.0
        drop = Interval(value=0 - difference.value, low=0 - difference.high, high=0 - difference.low)
    else:
        drop, _ = paired_bootstrap(metric, before, after)
        _, retained = paired_bootstrap(metric, after, before)
    old, new = predictions(baseline.logits, task), predictions(candidate.logits, task)
    flips = p = None
    if old is not None and new is not None:
        changed = (old != new).reshape(len(old), -1).any(axis=1)
        flips = tuple(int(row) for row in np.flatnonzero(changed))
        if old.ndim == 1:
            p = mcnemar_exact(old == labels, new == labels)
    return Comparison(metric=metric.name, retained=retained, drop=drop, flips=flips, mcnemar_p=p)


def margins(logits: Logits, task: Task) -> NDArray[np.float64]:
    """How sure each row of logits (N, C) is, as (N,): best minus second best; multi-label: nearest to 0."""
    values = logits.astype(np.float64)
    if task.kind == "multi-label":
        nearest: NDArray[np.float64] = np.abs(values).min(axis=1)
        return nearest
    ordered = np.sort(values, axis=1)
    difference: NDArray[np.float64] = ordered[:, -1] - ordered[:, -2]
    return difference


def write_flips(
    path: Path, comparison: Comparison, *, baseline: Quality, candidate: Quality, split: Split, task: Task
) -> None:
    """Write one JSON line per flipped row: its number, text, label, both predictions by name and their
    margins.

    The flip in which the candidate is surest comes first.
    """
    old, new = predictions(baseline.logits, task), predictions(candidate.logits, task)
    if old is None or new is None or comparison.flips is None:
        raise InputError(f"A {task.kind} task has no labels that could flip.")
    before, after = margins(baseline.logits, task), margins(candidate.logits, task)
    names = task.label_names
    ordered = sorted(comparison.flips, key=lambda row: (-after[row], row))
    lines = (
        {
            "row": row,
            **_named(split.rows[row], names),
            "baseline": _decision(old[row], names),
            "candidate": _decision(new[row], names),
            "baseline_margin": round(float(before[row]), 4),
            "candidate_margin": round(float(after[row]), 4),
        }
        for row in ordered
    )
    _write_lines(path, lines)


def _decision(decided: Any, names: tuple[str, ...]) -> str | list[str]:
    if np.ndim(decided) == 0:
        return names[int(decided)]
    return [name for name, chosen in zip(names, decided, strict=True) if chosen]


def _named(row: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    shown = {key: row[key] for key in ("text", "text_pair", "label") if key in row}
    if isinstance(shown.get("label"), int):
        shown["label"] = names[shown["label"]]
    return shown


def _write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    temporary = path.with_name(f".{path.name}.partial")
    with temporary.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    temporary.replace(path)


def save_predictions(path: Path, logits: Logits, labels: NDArray[Any]) -> None:
    """Write logits (N, C) and labels, so that a later step can compare without running the model."""
    temporary = path.with_name(f".{path.name}.partial")
    save_file({"logits": np.ascontiguousarray(logits), "labels": np.ascontiguousarray(labels)}, temporary)
    temporary.replace(path)


def load_predictions(path: Path) -> tuple[Logits, NDArray[Any]]:
    """Logits and labels written by `save_predictions`. Raises InputError for a missing or broken file."""
    try:
        tensors = load_file(path)
        return tensors["logits"], tensors["labels"]
    except (FileNotFoundError, SafetensorError, KeyError) as error:
        raise InputError(
            f"No predictions can be read from {path}: {error}.", hint="Evaluate the model again."
        ) from error

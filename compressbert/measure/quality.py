"""Quality of an artefact on labelled data."""

from __future__ import annotations

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
from compressbert.measure.statistics import Floats, interval, resampled_sums
from compressbert.measure.unseen import prior_alone
from compressbert.progress import track
from compressbert.results.record import MetricResult
from compressbert.tasks.base import Task
from compressbert.tasks.metrics import Metric

if TYPE_CHECKING:
    from compressbert.data.encode import Encoded

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
    shared: dict[Any, tuple[Floats, Floats]] = {}  # metrics with the same statistics share their resamples
    results = {}
    for metric in task.metrics:
        if metric.statistics not in shared:
            table = statistics_of(metric, logits, labels, task)
            (sums,) = resampled_sums(table, prior=prior_alone(metric, labels, task))
            shared[metric.statistics] = table.sum(axis=0), sums
        total, sums = shared[metric.statistics]
        found = interval(float(metric.value(total)), metric.value(sums))
        results[metric.name] = MetricResult(
            **found.model_dump(), direction=metric.direction, examples=len(labels)
        )
    return Quality(logits=logits, results=results)


def statistics_of(metric: Metric, logits: Logits, labels: NDArray[Any], task: Task) -> Floats:
    """Per-row statistics (N, k) of a metric of the task."""
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

"""Quality of an artefact on labelled data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
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
from compressbert.tasks.predictions import Predictions

if TYPE_CHECKING:
    from compressbert.data.encode import Encoded

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Quality:
    """What the metrics read, (N, C) in row order, and every metric of the task with its 95 % interval.

    These are the logits, or where those would not fit in memory (a row per token) what the metrics sum;
    then the last three say what was decided (`tasks/predictions.py`).
    """

    logits: Logits
    labels: NDArray[Any]
    results: dict[str, MetricResult]
    decisions: tuple[str, ...] | None = None
    margins: NDArray[np.float32] | None = None
    right: NDArray[np.bool_] | None = None


def evaluate(artefact: Runner, task: Task, encoded: Encoded, *, batch_size: int = 64) -> Quality:
    """Run ``artefact`` on every row and compute the task's metrics.

    Rows go in batches of similar length, always the same ones: a model with int8 activations scales them
    per batch, so its logits may differ in the last digits from those of single sentences.

    Raises:
        InputError: The rows carry no labels, or the artefact wants an input that the rows do not have.
        WorkError: A logit is not a number.
    """
    if len(encoded) == 0:
        raise InputError(
            "There are no rows to evaluate.", hint="Give a validation file with at least one row."
        )
    collector = task.collector(encoded)
    batches = ordered_batches(encoded, batch_size=batch_size, pad_id=artefact.limits.pad_id)
    with track("evaluate", total=encoded.sequences, unit="texts") as progress:
        for batch in batches:
            answer = artefact.predict({name: tensor.numpy() for name, tensor in batch.inputs.items()})
            _refuse_nan(answer, batch.inputs["attention_mask"].numpy(), batch.examples.numpy())
            collector.add(batch, torch.from_numpy(answer))
            progress.advance(len(answer))
    return quality_of_predictions(collector.finish(), task)


def _refuse_nan(answer: Logits, mask: NDArray[Any], rows: NDArray[Any]) -> None:
    """WorkError for outputs that are not numbers, padding apart."""
    finite: NDArray[np.bool_] = np.isfinite(answer)
    if answer.ndim == 3:
        finite |= (mask == 0)[:, :, None]
    bad = rows[~finite.reshape(len(answer), -1).all(axis=1)]
    if len(bad):
        raise WorkError(
            f"{len(bad)} of {len(rows)} rows of a batch have logits that are not numbers, the first is row "
            f"{bad.min()}.",
            hint="The weights hold NaN or infinity: train with a lower learning rate, or in fp32.",
        )


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
            table = metric.statistics(logits, labels)
            (sums,) = resampled_sums(table, prior=prior_alone(metric, labels, task))
            shared[metric.statistics] = table.sum(axis=0), sums
        total, sums = shared[metric.statistics]
        found = interval(float(metric.value(total)), metric.value(sums), centred=metric.noisy)
        if metric.noisy:
            found = found.model_copy(update={"low": max(found.low, 0.0)})
        results[metric.name] = MetricResult(
            **found.model_dump(), direction=metric.direction, examples=len(labels)
        )
    return Quality(logits, labels, results)


def quality_of_predictions(found: Predictions, task: Task) -> Quality:
    """Metrics of what was predicted, and the decisions. Raises WorkError for a score that is not a number."""
    quality = quality_of(found.scores, found.labels, task)
    return replace(quality, decisions=found.decisions, margins=found.margins, right=found.right)


def decided(quality: Quality, task: Task) -> NDArray[Any] | None:
    """What was decided about each row: ids (N,), flags (N, C) or texts (N,); None where nothing is."""
    if quality.decisions is not None:
        return np.array(quality.decisions, dtype=object)
    return predictions(quality.logits, task)


def predictions(logits: Logits, task: Task) -> NDArray[Any] | None:
    """What logits (N, C) decide: label ids (N,), or 0/1 flags (N, C); None where nothing is classified."""
    if task.kind == "sequence-classification":
        decided: NDArray[Any] = logits.argmax(axis=-1)
        return decided
    if task.kind == "multi-label":
        return np.asarray(logits > 0, dtype=np.int64)
    return None


def right_rows(quality: Quality, chosen: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each row was decided right, (N,), given what `decided` gives."""
    if quality.right is not None:
        return np.asarray(quality.right, dtype=np.bool_)
    same: NDArray[np.bool_] = chosen == quality.labels.reshape(chosen.shape)
    return np.asarray(same.reshape(len(chosen), -1).all(axis=1))


def save_predictions(path: Path, quality: Quality) -> None:
    """Write logits (N, C), labels and decisions, so that a later step can compare without running the model.

    Decisions that do not follow from the logits are UTF-8, one after another.
    """
    tensors = {
        "logits": np.ascontiguousarray(quality.logits),
        "labels": np.ascontiguousarray(quality.labels),
    }
    if quality.decisions is not None and quality.margins is not None and quality.right is not None:
        written = [decision.encode() for decision in quality.decisions]
        tensors["decisions"] = np.frombuffer(b"".join(written), np.uint8)
        tensors["decision_ends"] = np.cumsum([len(text) for text in written], dtype=np.int64)
        tensors["margins"] = np.ascontiguousarray(quality.margins)
        tensors["right"] = np.ascontiguousarray(quality.right)
    temporary = path.with_name(f".{path.name}.partial")
    save_file(tensors, temporary)
    temporary.replace(path)


def stored_width(path: Path) -> int:
    """Columns of the logits in a file of predictions. Raises InputError as `load_predictions` does."""
    return int(_tensors(path)["logits"].shape[1])


def load_predictions(path: Path, task: Task) -> Quality:
    """The quality of what `save_predictions` wrote. Raises InputError for a missing or broken file."""
    tensors = _tensors(path)
    decisions = None
    if "decision_ends" in tensors:
        text, ends = tensors["decisions"].tobytes(), tensors["decision_ends"].tolist()
        decisions = tuple(text[start:end].decode() for start, end in zip([0, *ends[:-1]], ends, strict=True))
    found = Predictions(
        tensors["logits"], tensors["labels"], decisions, tensors.get("margins"), tensors.get("right")
    )
    return quality_of_predictions(found, task)


def _tensors(path: Path) -> dict[str, NDArray[Any]]:
    try:
        tensors: dict[str, NDArray[Any]] = load_file(path)
        _ = tensors["logits"], tensors["labels"]
    except (FileNotFoundError, SafetensorError, KeyError) as error:
        raise InputError(
            f"No predictions can be read from {path}: {error}.", hint="Evaluate the model again."
        ) from error
    return tensors

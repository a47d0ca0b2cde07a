"""What a model said about a split, gathered batch by batch into what metrics and comparisons read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from compressbert.data.batches import Batch
from compressbert.data.encode import Encoded
from compressbert.errors import InputError

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Predictions:
    """One entry per example that is scored, in the order of the data.

    Attributes:
        scores: (N, K) what the task's metrics read: logits, or for outputs that would not fit in memory what
            the metrics sum.
        labels: (N,) or (N, C) what scores are compared with; zeros where scores hold the comparison already.
        decisions: What was decided about each example, as text; None where it follows from the scores, or
            where nothing is decided.
        margins: (N,) how sure each decision is; None with ``decisions``.
        right: (N,) whether each decision is right in all its parts; None with ``decisions``.
    """

    scores: Scores
    labels: NDArray[Any]
    decisions: tuple[str, ...] | None = None
    margins: NDArray[np.float32] | None = None
    right: NDArray[np.bool_] | None = None


class Collector(Protocol):
    """Takes the batches of a split in any order and says at the end what all of them amount to."""

    def add(self, batch: Batch, logits: Tensor) -> None:
        """Take a batch and the model's main output for it, whose first axis is that of the inputs."""

    def finish(self) -> Predictions:
        """What was gathered. InputError if the rows hold nothing to score."""


class Rows:
    """Keeps the output of every sequence, (B, C)."""

    def __init__(self, encoded: Encoded) -> None:
        self.encoded = encoded
        self.outputs: Scores | None = None

    def add(self, batch: Batch, logits: Tensor) -> None:
        found = logits.float().cpu().numpy()
        if found.ndim != 2:
            raise InputError(
                f"The model gives outputs of shape {found.shape}, a row per token; this task needs one per text.",
                hint="For a sentence encoder say how tokens are pooled: data.embedding.pooling: mean.",
            )
        if self.outputs is None:
            self.outputs = np.empty((self.encoded.sequences, *found.shape[1:]), np.float32)
        self.outputs[batch.examples.numpy()] = found

    def finish(self) -> Predictions:
        return Predictions(cast(Scores, self.outputs), labels_of(self.encoded))


def labels_of(encoded: Encoded) -> NDArray[Any]:
    """Labels in row order. Raises InputError without labels."""
    if encoded.labels is None:
        raise InputError(
            "The rows have no labels, so there is no quality to measure.",
            hint="Name the label column: --columns label=NAME, or data.columns.label.",
        )
    return np.asarray(encoded.labels)

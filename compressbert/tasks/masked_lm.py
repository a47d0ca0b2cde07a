"""The masked-language-model task: say which word stood under the mask."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from compressbert.config.schema import MaskingSettings, TaskKind
from compressbert.data.batches import Batch
from compressbert.data.encode import Encoded
from compressbert.errors import InputError
from compressbert.model.checkpoint import TaskSpec
from compressbert.nn.means import mean_over
from compressbert.tasks.metrics import NOT_SCORED, Array, Floats, Metric, ratio
from compressbert.tasks.predictions import Collector, Predictions

# Metrics over scores (N, 3): words found, their summed negative log-likelihood, words asked for.


def _found(scores: Array, _: Array) -> Floats:
    return np.asarray(scores, dtype=np.float64)[:, [0, 2]]


def _surprise(scores: Array, _: Array) -> Floats:
    return np.asarray(scores, dtype=np.float64)[:, [1, 2]]


def _share(sums: Floats) -> Floats:
    return ratio(sums[..., 0], sums[..., 1])


def _perplexity(sums: Floats) -> Floats:
    return np.asarray(np.exp(_share(sums)))


MASKED_ACCURACY = Metric("masked_accuracy", "higher", _found, _share, decided=True)
PERPLEXITY = Metric("perplexity", "lower", _surprise, _perplexity, bounded=False)


@dataclass(frozen=True)
class MaskedLM:
    """Logits (B, S, V), labels (B, S) int64 with -100 where nothing is scored.

    ``num_outputs`` is 0: the outputs are the model's own vocabulary, whatever its size.
    """

    settings: MaskingSettings = field(default_factory=MaskingSettings)
    label_names: tuple[str, ...] = ()
    num_outputs: int = 0
    primary_metric: str = "masked_accuracy"
    kind: ClassVar[TaskKind] = "masked-lm"
    per_token: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (MASKED_ACCURACY, PERPLEXITY)

    def spec(self) -> TaskSpec:
        return TaskSpec(self.kind, self.label_names, self.num_outputs)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy, mean over the scored words of the batch; 0 for a batch in which chance masked
        none.
        """
        scored = labels != NOT_SCORED
        total = F.cross_entropy(logits[scored].float(), labels[scored], reduction="sum")
        return mean_over(total, scored.sum())

    def signals(self, logits: Tensor, batch: Batch) -> Tensor:
        """(tokens, V): the logits of every token that is not padding."""
        return logits[batch.inputs["attention_mask"].bool()]

    def collector(self, encoded: Encoded) -> Collector:
        return _Words(len(encoded))


class _Words:
    """Sums over the words asked for. Which these are follows from a row's number alone, so two models are
    asked the same.
    """

    def __init__(self, rows: int) -> None:
        self.scores = np.zeros((rows, 3), np.float32)

    def add(self, batch: Batch, logits: Tensor) -> None:
        if batch.labels is None:
            raise InputError("The rows are not masked.", hint="Set data.task to masked-lm.")
        row, position = torch.nonzero(batch.labels != NOT_SCORED, as_tuple=True)
        # Only the words asked for leave the device: (B, S, V) logits would be a gigabyte at 64 x 128.
        chosen = logits[row, position].double().cpu()  # (words, V)
        words = batch.labels[row, position].cpu()
        found = (chosen.argmax(dim=-1) == words).double()
        nll = F.cross_entropy(chosen, words, reduction="none")
        columns = torch.stack([found, nll, torch.ones_like(nll)], dim=1).numpy()
        np.add.at(self.scores, batch.examples.numpy()[row.cpu().numpy()], columns)

    def finish(self) -> Predictions:
        if not self.scores[:, 2].any():
            raise InputError(
                f"no word of {len(self.scores)} rows was masked", hint="Give more or longer rows."
            )
        return Predictions(self.scores, np.zeros(len(self.scores)))

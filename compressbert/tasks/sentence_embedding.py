"""Sentence embedding: vectors whose cosine says how alike two texts are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, cast

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from compressbert.config.schema import EmbeddingSettings, TaskKind
from compressbert.data.batches import Batch
from compressbert.data.encode import Encoded
from compressbert.errors import InputError
from compressbert.model.checkpoint import TaskSpec
from compressbert.nn.means import mean
from compressbert.tasks import metrics as m
from compressbert.tasks.metrics import Metric
from compressbert.tasks.predictions import Collector, Predictions, Rows, Scores, labels_of


@dataclass(frozen=True)
class SentenceEmbedding:
    """Logits are vectors (B, H): of the first texts of the pairs, then of the second ones; labels (B/2,) scores.

    The loss is the squared error of the cosine. Distillation compares the vectors themselves, so it also
    works on plain texts without pairs and scores (alpha_hard: 0).
    """

    settings: EmbeddingSettings = field(default_factory=EmbeddingSettings)
    primary_metric: str = "spearman"
    label_names: tuple[str, ...] = ()
    num_outputs: int = 0
    kind: ClassVar[TaskKind] = "sentence-embedding"
    per_token: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (m.SPEARMAN, m.PEARSON, m.MEAN_SQUARED_ERROR)

    def spec(self) -> TaskSpec:
        return TaskSpec(
            self.kind, self.label_names, self.num_outputs, (self.settings.pooling, self.settings.normalize)
        )

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean squared error between cosines and scores over the settings' scale.

        Raises:
            InputError: A score lies beyond the scale, where no cosine reaches.
        """
        targets = labels.float() / self.settings.scale
        if bool((targets.abs() > 1).any()):
            raise InputError(
                f"A pair has the score {float(labels[targets.abs().argmax()]):g}, but the highest is "
                f"{self.settings.scale:g}.",
                hint="Set data.embedding.scale to the score of two texts that mean the same, such as 5.",
            )
        first, second = logits.float().chunk(2)
        return mean((F.cosine_similarity(first, second, dim=-1) - targets).square())

    def signals(self, logits: Tensor, _: Batch) -> Tensor:
        """(B, H): the vectors themselves."""
        return logits

    def collector(self, encoded: Encoded) -> Collector:
        return _Pairs(encoded, self.settings.scale)


class _Pairs(Rows):
    """Keeps the vectors of both texts; a pair's score is their cosine."""

    def __init__(self, encoded: Encoded, scale: float) -> None:
        super().__init__(encoded)
        if encoded.group != 2:
            raise InputError(
                "The rows are single texts, so there are no pairs to score.",
                hint="Give pairs with scores, such as columns sentence1, sentence2 and score.",
            )
        self.labels = labels_of(encoded) / scale

    def finish(self) -> Predictions:
        vectors = cast(Scores, self.outputs).astype(np.float64)
        first, second = vectors[0::2], vectors[1::2]
        lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        cosine = (first * second).sum(axis=1) / np.maximum(lengths, 1e-12)
        return Predictions(cosine.astype(np.float32)[:, None], self.labels)

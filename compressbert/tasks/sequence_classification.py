"""Tasks with one vector of logits per text (or pair): one class of several, a number, or any number of
classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from compressbert.config.schema import TaskKind
from compressbert.data.batches import Batch
from compressbert.data.encode import Encoded
from compressbert.model.checkpoint import TaskSpec
from compressbert.nn.means import mean
from compressbert.tasks import metrics as m
from compressbert.tasks.metrics import Metric
from compressbert.tasks.predictions import Collector, Rows


class _OneRow:
    """What tasks with one row of logits per text share."""

    settings: ClassVar[None] = None
    per_token: ClassVar[bool] = False

    def signals(self, logits: Tensor, _: Batch) -> Tensor:
        """(B, C): the logits themselves."""
        return logits

    def collector(self, encoded: Encoded) -> Collector:
        return Rows(encoded)


@dataclass(frozen=True)
class SequenceClassification(_OneRow):
    """One class of several: logits (B, C), labels (B,) int64, cross-entropy."""

    label_names: tuple[str, ...]
    primary_metric: str = "accuracy"
    kind: ClassVar[TaskKind] = "sequence-classification"

    @property
    def num_outputs(self) -> int:
        return len(self.label_names)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy, balanced accuracy, macro F1, Matthews, F1 of class 1 where there are two classes, the
        calibration error, and precision and recall of each label. (Micro F1 of one label per row is the
        accuracy.)
        """
        binary = (m.F1,) if len(self.label_names) == 2 else ()
        whole = (m.ACCURACY, m.BALANCED_ACCURACY, m.MACRO_F1, m.MATTHEWS, *binary, m.CALIBRATION_ERROR)
        return (*whole, *m.label_metrics(self.label_names))

    def spec(self) -> TaskSpec:
        return TaskSpec(self.kind, self.label_names, self.num_outputs)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy over examples."""
        return mean(F.cross_entropy(logits.float(), labels, reduction="none"))


@dataclass(frozen=True)
class Regression(_OneRow):
    """A number: logits (B, 1), labels (B,) float, squared error."""

    label_names: tuple[str, ...] = ()
    num_outputs: int = 1
    primary_metric: str = "pearson"
    kind: ClassVar[TaskKind] = "regression"
    metrics: ClassVar[tuple[Metric, ...]] = (m.PEARSON, m.SPEARMAN, m.MEAN_SQUARED_ERROR)

    def spec(self) -> TaskSpec:
        return TaskSpec(self.kind, self.label_names, self.num_outputs)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean squared error over examples."""
        return mean((logits.float().squeeze(-1) - labels.float()).square())


@dataclass(frozen=True)
class MultiLabel(_OneRow):
    """Any number of classes: logits (B, C), labels (B, C) of 0 and 1, binary cross-entropy."""

    label_names: tuple[str, ...]
    primary_metric: str = "micro_f1"
    kind: ClassVar[TaskKind] = "multi-label"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Micro and macro F1, rows with every label right, and precision and recall of each label."""
        whole = (m.MICRO_F1, m.MULTI_LABEL_MACRO_F1, m.SUBSET_ACCURACY)
        return (*whole, *m.label_metrics(self.label_names, multi_label=True))

    @property
    def num_outputs(self) -> int:
        return len(self.label_names)

    def spec(self) -> TaskSpec:
        return TaskSpec(self.kind, self.label_names, self.num_outputs)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Binary cross-entropy, mean over examples and classes."""
        return mean(F.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="none"))

"""The masked-language-model task: say which word stood under the mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from compressbert.config.schema import TaskKind
from compressbert.model.checkpoint import TaskSpec
from compressbert.tasks import metrics as m
from compressbert.tasks.metrics import NOT_SCORED, Metric


@dataclass(frozen=True)
class MaskedLM:
    """Logits (B, S, V), labels (B, S) int64 with -100 where nothing is scored.

    ``num_outputs`` is 0: the outputs are the model's own vocabulary, whatever its size.
    """

    label_names: tuple[str, ...] = ()
    num_outputs: int = 0
    primary_metric: str = "masked_accuracy"
    kind: ClassVar[TaskKind] = "masked-lm"
    metrics: ClassVar[tuple[Metric, ...]] = (m.MASKED_ACCURACY, m.PERPLEXITY)

    def spec(self) -> TaskSpec:
        return TaskSpec(self.kind, self.label_names, self.num_outputs)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy, mean over the scored words of the batch; 0 for a batch in which chance masked
        none.
        """
        scored = labels != NOT_SCORED
        total = F.cross_entropy(logits[scored].float(), labels[scored], reduction="sum")
        return total / scored.sum().clamp(min=1)

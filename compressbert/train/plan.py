"""Which batches a step reads, and the seeds of what is random in it."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from compressbert.config.schema import TrainConfig


@dataclass(frozen=True)
class Plan:
    """The batches of all epochs form one stream, and each optimizer step reads the next few of them.

    So a step may straddle two epochs, no batch is dropped, and where a run stands in the data follows from
    the number of steps alone. Each process has a stream of its own, all of one length.

    Attributes:
        per_epoch: Batches of one epoch and process.
        accumulation: Batches per step and process.
        total: Optimizer steps.
    """

    per_epoch: int
    accumulation: int
    total: int

    @classmethod
    def of(cls, settings: TrainConfig, per_epoch: int) -> Plan:
        """The plan for ``settings``; a fraction of an epoch is rounded up to a whole step."""
        # Rounding first: 0.7 epochs of 10 batches are 7 steps, not 8 because of 7.000000000000001.
        total = math.ceil(round(settings.epochs * per_epoch / settings.gradient_accumulation, 6))
        total = max(1, min(total, settings.max_steps or total))
        return cls(per_epoch, settings.gradient_accumulation, total)

    def batches(self, step: int) -> list[tuple[int, int]]:
        """(epoch, index) of the batches of ``step``, all from 0."""
        first = step * self.accumulation
        return [divmod(number, self.per_epoch) for number in range(first, first + self.accumulation)]

    def epochs(self, steps: int) -> float:
        """Epochs read after ``steps`` steps."""
        return steps * self.accumulation / self.per_epoch

    def ends_epoch(self, steps: int) -> bool:
        """Whether the last of ``steps`` steps finished an epoch, or the training."""
        return steps == self.total or math.floor(self.epochs(steps)) > math.floor(self.epochs(steps - 1))


def derived_seed(*facts: object) -> int:
    """A 32-bit seed that depends on every one of ``facts``, the same in every Python process."""
    return int.from_bytes(hashlib.sha256(repr(facts).encode()).digest()[:4], "big")

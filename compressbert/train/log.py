"""Collects the losses of a stage: finds the first non-finite one, and keeps a log of about fifty points."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from compressbert.errors import WorkError
from compressbert.train.checkpoint import Progress

LOGGED_POINTS = 50
STEPS_BETWEEN_READS = 20  # on an accelerator, where reading a value waits for all queued work


class LossLog:
    """Takes each step's loss parts as tensors, reads them in bulk, so that an accelerator does not wait."""

    def __init__(self, state: Progress, total: int, stage: str, device: torch.device) -> None:
        self.state = state
        self.total = total
        self.stage = stage
        self.every = max(1, total // LOGGED_POINTS)
        self.reads_every = 1 if device.type == "cpu" else STEPS_BETWEEN_READS
        self.latest = math.nan
        self._unread: list[tuple[int, float, tuple[str, ...], Tensor]] = []

    def add(self, step: int, parts: Mapping[str, Tensor], norm: Tensor, learning_rate: float) -> None:
        """Take the parts of optimizer step ``step`` (from 1) and the norm of its gradients.

        Raises:
            WorkError: A part or the norm of this step, or of one taken since the last read, is not finite.
        """
        values = torch.stack([norm.detach().float(), *(part.detach().float() for part in parts.values())])
        self._unread.append((step, learning_rate, tuple(parts), values))
        logged = step % self.every == 0 or step == self.total
        if logged or len(self._unread) >= self.reads_every:
            self.read()
        if logged:
            self._log(step, learning_rate)

    def read(self) -> None:
        """Bring all values taken so far to the host and add them to the running sums."""
        if not self._unread:
            return
        flat = iter(torch.cat([values for *_, values in self._unread]).tolist())
        for step, learning_rate, names, _ in self._unread:
            norm = next(flat)
            parts = {name: next(flat) for name in names}
            self._check(step, parts, norm, learning_rate)
            for name, value in parts.items():
                self.state.sums[name] = self.state.sums.get(name, 0.0) + value
            self.state.summed_steps += 1
            self.latest = sum(parts.values())
        self._unread.clear()

    def _check(self, step: int, parts: Mapping[str, float], norm: float, learning_rate: float) -> None:
        wrong = [
            f"loss part '{name}' is {value}" for name, value in parts.items() if not math.isfinite(value)
        ]
        if not wrong and not math.isfinite(norm):
            wrong = [f"the norm of the gradients is {norm}"]
        if wrong:
            raise WorkError(
                f"{self.stage}: training diverged at step {step} of {self.total}: {', '.join(wrong)}",
                hint=f"Lower train.learning_rate (here it was {learning_rate:.3g}) or lengthen train.warmup; "
                "if the first steps fail whatever the rate, look for broken labels or teacher outputs.",
            )

    def _log(self, step: int, learning_rate: float) -> None:
        means = {name: value / self.state.summed_steps for name, value in self.state.sums.items()}
        point = {**means, "step": float(step), "loss": sum(means.values()), "learning_rate": learning_rate}
        self.state.log.append(point)
        self.state.sums.clear()
        self.state.summed_steps = 0

"""Ranges of activations on the user's texts, streamed: memory does not grow with the number of texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compressbert.model.handle import Model
from compressbert.nn.int8 import Int8Linear, grid

Batches = Iterable[Mapping[str, NDArray[np.int64]]]
Range = tuple[float, float]

_BINS = 4096  # of a histogram over [-limit, limit]


class RangeObserver:
    """Smallest and largest value of a stream of tensors, and a histogram of it.

    The histogram spans [-limit, limit]. A value beyond it doubles the limit as often as needed; bins then
    merge in pairs, so every count stays where it belongs and no value is kept.
    """

    def __init__(self) -> None:
        self.low, self.high = 0.0, 0.0
        self._limit = 0.0
        self._counts = torch.zeros(_BINS, dtype=torch.float64)

    def update(self, x: Tensor) -> None:
        """Take in a tensor of any shape."""
        low, high = (float(bound) for bound in torch.aminmax(x.float()))
        self.low, self.high = min(self.low, low), max(self.high, high)
        largest = max(-low, high)
        if largest == 0:
            self._limit = self._limit or 1e-6
        elif self._limit == 0:
            self._limit = largest
        while self._limit < largest:
            middle = self._counts.view(-1, 2).sum(dim=1)
            self._counts = nn.functional.pad(middle, (_BINS // 4, _BINS // 4))
            self._limit *= 2
        self._counts += torch.histc(x.float(), _BINS, -self._limit, self._limit).double()

    def range(self, percentile: float | None = None) -> Range:
        """Bounds of everything seen, or of its middle ``percentile`` per cent, to the width of a bin.

        Zero is always inside.
        """
        if percentile is None:
            return self.low, self.high
        tail = (1 - percentile / 100) / 2 * float(self._counts.sum())
        width = 2 * self._limit / _BINS
        below = int((self._counts.cumsum(0) <= tail).sum())  # bins that lie within the tail as a whole
        above = int((self._counts.flip(0).cumsum(0) <= tail).sum())
        low, high = -self._limit + below * width, self._limit - above * width
        return max(self.low, min(low, 0.0)), min(self.high, max(high, 0.0))


@torch.inference_mode()
def calibrate(
    model: Model, modules: Sequence[str], batches: Batches, *, percentile: float | None = None
) -> dict[str, Range]:
    """Ranges of what these Linear or Int8Linear modules read.

    Args:
        model: In evaluation mode.
        modules: Qualified names.
        batches: Inputs (B, S), without padding: what a padded position computes is nobody's activation.
        percentile: Leave out this much of the values at both ends together; None takes all in.
    """
    observers = {name: RangeObserver() for name in modules}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, given: observers[name].update(given[0])

    handles = [model.network.get_submodule(name).register_forward_pre_hook(watch(name)) for name in modules]
    try:
        for batch in batches:
            model(
                **{name: torch.from_numpy(values).to(model.network.device) for name, values in batch.items()}
            )
    finally:
        for handle in handles:
            handle.remove()
    return {name: observer.range(percentile) for name, observer in observers.items()}


def fix_ranges(model: Model, ranges: Mapping[str, Range]) -> None:
    """Give int8 modules, in place, the uint8 grid of their calibrated range; others keep dynamic ones."""
    for name, (low, high) in ranges.items():
        module = model.network.get_submodule(name)
        if isinstance(module, Int8Linear):
            module.fixed = grid(torch.tensor(low), torch.tensor(high))

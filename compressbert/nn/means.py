"""Means that several training processes take together, so that they learn what one process with all rows would.

A process's gradient is that of its own loss, and the processes' gradients are averaged. Where each holds as many rows
as the others, the average of their means is the mean over all rows; a last batch of fewer rows, or a mean over
tokens, of which every batch holds its own number, would count for too much in one process and too little in another.
So each divides its sum by the average number of all processes instead of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_WEIGHT: ContextVar[float | None] = ContextVar("weight", default=None)  # None: this process alone


@contextmanager
def together(active: bool, *, weight: float = 1.0) -> Iterator[None]:
    """Take means over all processes while the block runs; each must take the same ones in the same order.

    Args:
        active: False leaves everything as it is.
        weight: 0 in a process whose rows are another's and only keep it in step.
    """
    token = _WEIGHT.set(weight if active else None)
    try:
        yield
    finally:
        _WEIGHT.reset(token)


def mean(values: Tensor) -> Tensor:
    """The mean over all elements."""
    return values.mean() if _WEIGHT.get() is None else mean_over(values.sum(), values.numel())


def mean_over(total: Tensor, count: Tensor | int) -> Tensor:
    """``total / count``: a sum of this process's terms over how many there are, at least 1."""
    weight, own = _WEIGHT.get(), torch.as_tensor(count, device=total.device)
    if weight is None:
        return total / own.clamp(min=1)
    everywhere = weight * own.float()
    torch.distributed.all_reduce(everywhere)
    return weight * total / (everywhere.clamp(min=1) / torch.distributed.get_world_size())

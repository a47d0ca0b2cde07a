"""Dropout for the time of one training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from compressbert.model.handle import Model


@contextmanager
def dropout_of(model: Model, probability: float | None) -> Iterator[None]:
    """Train with this dropout while the block runs; None leaves the model's own."""
    modules = [module for module in model.network.modules() if isinstance(module, nn.Dropout)]
    own = [module.p for module in modules]
    for module in modules:
        module.p = module.p if probability is None else probability
    try:
        yield
    finally:
        for module, before in zip(modules, own, strict=True):
            module.p = before

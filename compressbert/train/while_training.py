"""What a training changes about a network for the time it runs: its dropout, and which of it is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from compressbert.errors import ConfigError
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


@contextmanager
def frozen_words(model: Model, *, enabled: bool) -> Iterator[None]:
    """Keep the word embeddings, and an output layer tied to them, out of training while the block runs.

    Raises:
        ConfigError: The network has none that could be told apart.
    """
    if not enabled:
        yield
        return
    try:
        weight = model.network.get_input_embeddings().weight
    except (AttributeError, NotImplementedError) as error:
        raise ConfigError(
            f"train.freeze_words needs word embeddings; {type(model.network).__name__} names none",
            hint="Leave the setting out.",
        ) from error
    before = weight.requires_grad
    weight.requires_grad_(False)
    try:
        yield
    finally:
        weight.requires_grad_(before)

"""A tiny model in memory, as the tests of this folder use it."""

from __future__ import annotations

from typing import Any

import torch

from compressbert.model.handle import Model
from compressbert.model.stock import plain
from tests.tiny import padded_batch, tiny_network, tiny_tokenizer


def tiny_model(family: str, **options: Any) -> Model:
    network = tiny_network(family, **options)
    return Model(network, tiny_tokenizer(family), plain(network.config))


@torch.no_grad()
def logits(model: Model, family: str) -> torch.Tensor:
    return model(**padded_batch(family)).logits


def difference(left: torch.Tensor, right: torch.Tensor) -> float:
    return float((left - right).abs().max())

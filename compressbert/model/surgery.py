"""Narrowing single modules: keep some rows or columns of a Linear, LayerNorm, embedding or int8 twin."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compressbert.errors import ConfigError
from compressbert.nn.int8 import Int8Embedding, Int8Linear


def keep_outputs(module: nn.Module, keep: Sequence[int]) -> None:
    """Keep these outputs of a Linear or Int8Linear: rows of its weight, entries of its bias and scale."""
    _narrow(module, "weight", -2, keep)
    _narrow(module, "bias", 0, keep)
    if isinstance(module, Int8Linear):
        _narrow(module, "scale", 0, keep)
    module.out_features = len(keep)  # type: ignore[assignment]


def keep_inputs(module: nn.Module, keep: Sequence[int]) -> None:
    """Keep these input features of a Linear or Int8Linear: columns of its weight. Scales stay."""
    _narrow(module, "weight", -1, keep)
    module.in_features = len(keep)  # type: ignore[assignment]


def keep_columns(module: nn.Module, keep: Sequence[int]) -> None:
    """Keep these columns of an embedding table. Scales of an int8 table stay."""
    _narrow(module, "weight", -1, keep)
    module.embedding_dim = len(keep)  # type: ignore[assignment]


def keep_features(norm: nn.LayerNorm, keep: Sequence[int]) -> None:
    """Keep these features of a LayerNorm; mean and variance are then taken over those that are left."""
    _narrow(norm, "weight", 0, keep)
    _narrow(norm, "bias", 0, keep)
    norm.normalized_shape = (len(keep),)


def replace(root: nn.Module, name: str, module: nn.Module) -> None:
    """Put ``module`` in the place of the submodule called ``name``."""
    parent, _, leaf = name.rpartition(".")
    setattr(root.get_submodule(parent), leaf, module)


def to_int8(module: nn.Module, name: str, *, empty: bool, portable: bool = True) -> nn.Module:
    """The int8 twin of a Linear or an Embedding.

    Args:
        module: What to quantize.
        name: Its qualified name, for messages.
        empty: Only the shapes; the weights are loaded afterwards.
        portable: Weights of a Linear that no CPU's kernel saturates.

    Raises:
        ConfigError: The module is neither a Linear nor an Embedding.
    """
    if isinstance(module, nn.Linear):
        if empty:
            return Int8Linear(module.in_features, module.out_features, module.bias is not None)
        return Int8Linear.from_linear(module, portable=portable)
    if isinstance(module, nn.Embedding):
        if empty:
            return Int8Embedding(module.num_embeddings, module.embedding_dim, module.padding_idx)
        return Int8Embedding.from_embedding(module)
    found = "already int8" if isinstance(module, Int8Linear | Int8Embedding) else f"a {type(module).__name__}"
    raise ConfigError(
        f"{name} cannot be quantized: expected a Linear or an Embedding, found {found}.",
        hint="Name Linear or Embedding modules that are still fp32.",
    )


@torch.no_grad()
def _narrow(module: nn.Module, tensor: str, dimension: int, keep: Sequence[int]) -> None:
    old: Tensor | None = getattr(module, tensor)
    if old is None:
        return
    index = torch.tensor(list(keep), dtype=torch.long, device=old.device)
    new = old.index_select(dimension, index).contiguous()
    if isinstance(old, nn.Parameter):
        new = nn.Parameter(new, requires_grad=old.requires_grad)
    setattr(module, tensor, new)

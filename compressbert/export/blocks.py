"""Runs the blocks of a PyTorch model one by one, each on what an exported file wrote before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.activations import ACT2FN

from compressbert.export.encoder import activation_name
from compressbert.model.families import Layer
from compressbert.model.handle import Model

Array = NDArray[np.float32]


class FirstTokenLayer(nn.Module):
    """A transformer layer that computes only the first token: keys and values of all tokens, all else of one.

    Its row equals that of the whole layer; int8 activations take their range from that one token, as in a
    graph that is cut the same way.
    """

    def __init__(self, layer: Layer, activation: str) -> None:
        super().__init__()
        self.parts = layer
        self.activation = ACT2FN[activation]

    def forward(self, hidden: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        """(B, S, width) to (B, 1, width)."""
        parts, size = self.parts, self.parts.attention.attention_head_size
        first = hidden[:, :1]
        query, key, value = (
            module(rows).view(*rows.shape[:2], -1, size).transpose(1, 2)  # (B, heads, tokens, head size)
            for module, rows in ((parts.query, first), (parts.key, hidden), (parts.value, hidden))
        )
        mask = None if attention_mask is None else attention_mask[..., :1, :]
        scaling = float(parts.attention.scaling)  # type: ignore[arg-type]
        context = nn.functional.scaled_dot_product_attention(query, key, value, mask, scale=scaling)
        attended = parts.attention_norm(parts.attention_out(context.transpose(1, 2).flatten(2)) + first)
        inner = self.activation(parts.ffn_in(attended))
        result: Tensor = parts.ffn_norm(parts.ffn_out(inner) + attended)
        return result


@torch.inference_mode()
def replay_blocks(
    model: Model, inputs: dict[str, Tensor], values: Sequence[Array], output: str
) -> list[Array]:
    """What PyTorch computes for every block when each is given the values the file had there.

    Args:
        model: In evaluation mode.
        inputs: Input tensors (B, S).
        values: What the file wrote: the embeddings' output, then every layer's, rows of sequence-first
            tokens. If the last one holds first tokens only, the last layer is computed so too.
        output: Name of the model's output.

    Returns:
        The same values as PyTorch computes them, in the same layout, and the output.
    """
    batch, length = inputs["input_ids"].shape
    given = [_by_text(value, batch, inputs["input_ids"].device) for value in values]
    short = length > 1 and given[-1].shape[1] == 1
    seen: list[Tensor] = []
    with _layers(model, short=short) as layers:
        handles = [*_feed(layers, given, seen)]
        try:
            final = model(**inputs)[output]
        finally:
            for handle in handles:
                handle.remove()
    computed = [hidden.transpose(0, 1).reshape(-1, hidden.shape[-1]).cpu().numpy() for hidden in seen]
    return [*computed, final.float().cpu().numpy()]


def _by_text(value: Array, batch: int, device: torch.device) -> Tensor:
    """(sequence · batch, width) to (batch, sequence, width)."""
    rows = torch.from_numpy(value).to(device)
    return rows.view(-1, batch, rows.shape[-1]).transpose(0, 1).contiguous()


def _feed(layers: nn.ModuleList, given: Sequence[Tensor], seen: list[Tensor]) -> Iterator[RemovableHandle]:
    def before(index: int) -> Any:
        def hook(_: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
            if index == 0:
                seen.append(positional[0])
            return (given[index], *positional[1:]), named

        return hook

    def after(index: int) -> Any:
        def hook(_: nn.Module, __: Any, result: Tensor) -> Tensor:
            seen.append(result)
            return given[index + 1]

        return hook

    for index, layer in enumerate(layers):
        yield layer.register_forward_pre_hook(before(index), with_kwargs=True)
        yield layer.register_forward_hook(after(index))


@contextmanager
def _layers(model: Model, *, short: bool) -> Iterator[nn.ModuleList]:
    """The network's layers, the last one cut to the first token while the block runs."""
    layers = model.family.layer_list(model.network)
    last = layers[-1]
    if short:
        layers[-1] = FirstTokenLayer(model.family.layers(model.network)[-1], activation_name(model))
    try:
        yield layers
    finally:
        layers[-1] = last

"""Runs the blocks of a PyTorch model one by one, each on what an exported file wrote before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.activations import ACT2FN

from compressbert.export.prenorm import FirstTokenPreNorm
from compressbert.model.biased_layers import BiasedFamily
from compressbert.model.handle import Model
from compressbert.model.local_layers import LocalFamily
from compressbert.model.parts import Layer
from compressbert.nn.in_turn import hook_in_turn
from compressbert.nn.int8 import Int8Linear

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
        parts, size = self.parts, self.parts.head_size
        first = hidden[:, :1]
        asking, asked, values, residual = _read_by_attention(parts, hidden)
        query, key, value = (
            module(rows).view(*rows.shape[:2], -1, size).transpose(1, 2)  # (B, heads, tokens, head size)
            for module, rows in ((parts.query, asking), (parts.key, asked), (parts.value, values))
        )
        mask = None if attention_mask is None else attention_mask[..., :1, :]
        context = nn.functional.scaled_dot_product_attention(query, key, value, mask, scale=parts.scaling)
        inside = parts.attention_norm(parts.attention_out(context.transpose(1, 2).flatten(2)) + residual)
        for network in parts.stacked:
            inside = network.norm(network.ffn_out(self.activation(network.ffn_in(inside))) + inside)
        result: Tensor = parts.ffn_norm(parts.ffn_out(self.activation(parts.ffn_in(inside))) + inside)
        if parts.bottleneck is not None:
            result = parts.bottleneck.out_norm(parts.bottleneck.out(result) + first)
        return result


class FirstTokenOfBiased(FirstTokenLayer):
    """The same of MPNet, whose layers are given a bias for their scores and give a tuple."""

    def forward(  # type: ignore[override]
        self, hidden: Tensor, attention_mask: Tensor | None, position_bias: Tensor, **_: Any
    ) -> tuple[Tensor]:
        """(B, S, width) and a bias (B, heads, S, S) to (B, 1, width)."""
        bias = position_bias if attention_mask is None else position_bias + attention_mask
        return (super().forward(hidden, bias),)


def _read_by_attention(parts: Layer, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the first token's query reads, what keys and values read, and the first token's residual."""
    first, narrow = hidden[:, :1], parts.bottleneck
    if narrow is None:
        return first, hidden, hidden, first
    if narrow.attention_is_inside:
        inside = narrow.residual_norm(narrow.residual(hidden))
        return inside[:, :1], inside, inside, inside[:, :1]
    residual = narrow.residual_norm(narrow.residual(first))
    if narrow.shared is None or narrow.shared_norm is None:
        return first, hidden, hidden, residual
    shared = narrow.shared_norm(narrow.shared(hidden))
    return shared[:, :1], shared, hidden, residual


def first_token_layer(model: Model) -> nn.Module:
    """The last layer, computing only the first token."""
    family, network = model.family, model.network
    parts, activation = family.layers(network)[-1], model.activation
    if isinstance(family, LocalFamily):
        return FirstTokenPreNorm(parts, activation, family.kinds(network)[-1])
    if isinstance(family, BiasedFamily):
        return FirstTokenOfBiased(parts, activation)
    return FirstTokenLayer(parts, activation)


@dataclass(frozen=True)
class _Rows:
    """Where the rows of a file are in a padded batch: text by text if it packs tokens, else sequence first.

    Attributes:
        places: (rows,) int64: the position of every row, counted over (B, S).
        row_of: (B, S) int64: the row of every position; one that is no row has its text's first token.
    """

    places: Tensor
    row_of: Tensor

    @classmethod
    def of(cls, mask: Tensor, *, packed: bool) -> _Rows:
        batch, length = mask.shape
        if not packed:
            row_of = torch.arange(batch * length, device=mask.device).view(length, batch).t()
            return cls(row_of.flatten().argsort(), row_of)
        kept = mask != 0
        kept[:, 0] = True
        numbers = (kept.flatten().cumsum(0) - 1).view(kept.shape)
        return cls(kept.flatten().nonzero().squeeze(1), torch.where(kept, numbers, numbers[:, :1]))

    def spread(self, rows: Tensor) -> Tensor:
        """(rows, width) to (B, S, width); first tokens alone, (B, width), to (B, 1, width)."""
        return rows[:, None] if rows.shape[0] < len(self.places) else rows[self.row_of]

    def collect(self, hidden: Tensor) -> Tensor:
        """(B, S, width) to (rows, width); (B, 1, width) to (B, width)."""
        return hidden.flatten(0, 1) if hidden.shape[1] == 1 else hidden.flatten(0, 1)[self.places]


@contextmanager
def real_tokens_only(model: Model, mask: Tensor, *, enabled: bool = True) -> Iterator[None]:
    """Let padding count for nothing in int8 modules, as in a file with packed tokens.

    In front of every layer, and of ELECTRA's projection, padded positions are given what their text's first
    token has. They then compute what that token computes and leave the range of the activations to real ones.

    Args:
        model: Whose modules are hooked while the block runs.
        mask: (B, S) attention mask.
        enabled: False to change nothing.
    """
    rows = _Rows.of(mask, packed=True)

    def repeat(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if given[0].shape[:2] != mask.shape:  # first tokens alone
            return None
        return (rows.spread(rows.collect(given[0])), *given[1:]), named

    modules = list(dict.fromkeys(model.family.blocks(model.network))) if enabled else []
    # Where a token's place counts inside layers, copies do not compute the same.
    if enabled and isinstance(model.family, LocalFamily | BiasedFamily):
        modules += [part for block in modules for part in block.modules() if isinstance(part, Int8Linear)]
    projection = model.family.embeddings(model.network).projection
    if enabled and projection is not None:
        modules.append(projection)
    handles = [module.register_forward_pre_hook(repeat, with_kwargs=True) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def replay_blocks(
    model: Model, inputs: dict[str, Tensor], values: Sequence[Array], output: str
) -> list[Array]:
    """What PyTorch computes for every block when each is given the values the file had there.

    Args:
        model: In evaluation mode.
        inputs: Input tensors (B, S).
        values: What the file wrote: the embeddings' output, then every layer's; rows of real tokens text by
            text, or of all positions sequence first. If the last one holds first tokens only, the last layer is
            computed so too.
        output: Name of the model's output.

    Returns:
        The same values as PyTorch computes them, in the same layout, and the output.
    """
    batch, length = inputs["input_ids"].shape
    packed = values[0].shape[0] < batch * length
    rows = _Rows.of(inputs["attention_mask"], packed=packed)
    given = [rows.spread(torch.from_numpy(value).to(inputs["input_ids"].device)) for value in values]
    short = values[-1].shape[0] < values[0].shape[0]
    seen: list[Tensor] = []
    with (
        _layers(model, short=short) as layers,
        real_tokens_only(model, inputs["attention_mask"], enabled=packed),
    ):
        handles = _feed(layers, given, seen)
        try:
            final = model(**inputs)[output]
        finally:
            for handle in handles:
                handle.remove()
    computed = [rows.collect(hidden).cpu().numpy() for hidden in seen]
    return [*computed, final.float().cpu().numpy()]


def _feed(layers: Sequence[nn.Module], given: Sequence[Tensor], seen: list[Tensor]) -> list[RemovableHandle]:
    def before(index: int, hidden: Tensor) -> Tensor:
        if index == 0:
            seen.append(hidden)
        return given[index]

    def after(index: int, result: Tensor) -> Tensor:
        seen.append(result)
        return given[index + 1]

    return hook_in_turn(layers, before=before, after=after)


@contextmanager
def _layers(model: Model, *, short: bool) -> Iterator[list[nn.Module]]:
    """The network's layers, the last one cut to the first token while the block runs."""
    family, network = model.family, model.network
    layers = family.blocks(network)
    if short:
        layers[-1] = first_token_layer(model)
    undo = family.run_blocks(network, layers)
    try:
        yield layers
    finally:
        undo()

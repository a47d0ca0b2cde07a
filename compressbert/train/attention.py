"""Attention of networks that train in bfloat16 on a CPU.

torch's fused attention for CPUs (2.13) has a slow backward pass in bfloat16: for 32 texts of 14 tokens and 12 heads
of 32, forward and backward took 31 ms in bfloat16 and 3.3 ms in float32, for 4 texts of 512 tokens 77 and 60 ms.
It was most of a training step. The products before and after it, which are most of the arithmetic, stay in bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "sdpa_float32"


def sdpa_float32(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **settings: Any,
) -> tuple[Tensor, Tensor | None]:
    """Scaled dot-product attention computed in float32; query, key, value (B, A, S, D), result as they are typed."""
    if attention_mask is not None and attention_mask.is_floating_point():
        attention_mask = attention_mask.float()
    with torch.autocast(query.device.type, enabled=False):
        states, weights = sdpa_attention_forward(
            module, query.float(), key.float(), value.float(), attention_mask, **settings
        )
    return states.to(query.dtype), weights


AttentionInterface.register(NAME, sdpa_float32)
AttentionMaskInterface.register(NAME, sdpa_mask)


@contextmanager
def attention_in_float32(network: nn.Module, *, enabled: bool) -> Iterator[None]:
    """Let ``network`` compute its attention in float32 while the block runs, if it uses torch's fused attention."""
    if not (
        enabled and isinstance(network, PreTrainedModel) and network.config._attn_implementation == "sdpa"
    ):
        yield
        return
    network.set_attn_implementation(NAME)
    try:
        yield
    finally:
        network.set_attn_implementation("sdpa")

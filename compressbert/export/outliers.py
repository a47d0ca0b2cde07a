"""Features that dwarf the others where int8 products read them, brought within reach by powers of two.

Source: G. Xiao et al. SmoothQuant. ICML 2023. arXiv 2211.10438, which moves scale from activations into weights.

One scale quantizes all features of an activation, so a single feature that reaches 24 where the others stay
below 5 takes two bits from them all. Encoders have such features, mostly at their first token. Here a feature
is divided by a power of two before it is quantized and its weights are multiplied by it: in fp32 nothing changes,
not by one bit, and nothing else is asked of the model. Which features stand out does not depend much on the
text, so made-up ones find them. Differs from the paper: no data, only the features that stand out, and what comes
before the product stays as it is, since the residual reads it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from compressbert.export.probes import limits_of
from compressbert.model.handle import Model
from compressbert.nn.int8 import Int8Linear

_TEXTS, _LENGTH = 8, 32  # made-up texts that features are looked at on
_USUAL = 0.98  # of the features stay below what all should stay below
_WORTH = 4.0  # a range that shrinks by less gains too little for a pass over the activations


@torch.inference_mode()
def outlier_divisors(model: Model, modules: Iterable[str]) -> dict[str, Tensor]:
    """What features are to be divided by before these modules quantize them.

    Args:
        model: In evaluation mode.
        modules: Qualified names of Linear or Int8Linear modules.

    Returns:
        Names of those modules for which it is worth it, with their divisors: fp32 (in,), powers of two.
    """
    largest: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            reached = given[0].detach().float().abs().flatten(0, -2).amax(dim=0)
            largest[name] = torch.maximum(reached, largest.get(name, reached))

        return hook

    handles = [model.network.get_submodule(name).register_forward_pre_hook(watch(name)) for name in modules]
    try:
        ids = _texts(model)
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    finally:
        for handle in handles:
            handle.remove()
    found = {name: divisors_of(values) for name, values in largest.items()}
    return {name: divisors for name, divisors in found.items() if bool((divisors > 1).any())}


def divisors_of(largest: Tensor) -> Tensor:
    """Powers of two, from 1 to 128, for features that reach ``largest``, fp32 (in,); all 1 where that gains little."""
    usual = largest.quantile(_USUAL, interpolation="lower")
    ones = torch.ones_like(largest)
    if usual == 0:
        return ones
    divisors = torch.exp2(torch.log2(largest / usual).round().clamp(0, 7)).nan_to_num(1.0)
    return divisors if largest.max() >= _WORTH * (largest / divisors).max() else ones


def divide(model: Model, divisors: Mapping[str, Tensor], *, portable: bool) -> None:
    """Let Int8Linear modules of ``model``, in place, quantize divided features; their weights are multiplied."""
    for name, divisor in divisors.items():
        module = model.network.get_submodule(name)
        if isinstance(module, Int8Linear):
            module.divide_features(divisor.to(module.scale.device), portable=portable)


def _texts(model: Model) -> Tensor:
    """Random word pieces between the tokens that the tokenizer frames texts with: int64 (texts, length)."""
    limits, tokenizer = limits_of(model), model.tokenizer
    length = min(_LENGTH, limits.longest)
    ids = np.random.default_rng(0).integers(0, limits.vocabulary, (_TEXTS, length))
    for place, frame in ((0, tokenizer.cls_token_id), (-1, tokenizer.sep_token_id)):
        if frame is not None and frame < limits.vocabulary:
            ids[:, place] = frame
    return torch.from_numpy(ids).to(model.network.device)

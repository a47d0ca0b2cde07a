"""Parts of a product: equal shares of its outputs, as products of their own that share its memory."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from compressbert.nn.int8 import Int8Linear
from compressbert.nn.lowbit import LowBitLinear


def rows_of(module: nn.Module | None, parts: int) -> list[nn.Module]:
    """Cut a Linear, Int8Linear or LowBitLinear into ``parts`` of equal width, in evaluation mode, for reading only.

    Raises:
        TypeError: It is none of these.
    """
    if not isinstance(module, nn.Linear | Int8Linear):
        raise TypeError(f"a {type(module).__name__} is no product that could be cut")
    width = module.out_features // parts
    return [_rows(module, slice(part * width, (part + 1) * width)) for part in range(parts)]


def _rows(module: nn.Linear | Int8Linear, where: slice) -> nn.Module:
    part: Any = type(module).__new__(type(module))
    nn.Module.__init__(part)
    part.in_features, part.out_features = module.in_features, where.stop - where.start
    bias = None if module.bias is None else module.bias.detach()[where]
    if isinstance(module, Int8Linear):
        part.weight, part.scale, part.bias = module.weight[:, where], module.scale[where], bias
        part.fixed, part.divisor, part.product = module.fixed, module.divisor, module.product
        return cast(nn.Module, part.eval())
    part.weight = nn.Parameter(module.weight.detach()[where], requires_grad=False)
    part.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
    if isinstance(module, LowBitLinear):
        part.bits, part.codes, part.block_scale = module.bits, module.codes[where], module.block_scale[where]
    return cast(nn.Module, part.eval())

"""What int8 products become on a CPU without VNNI, computed bit for bit on any machine.

The kernels of onnxruntime for AVX2 and for AVX-512 without VNNI multiply uint8 activations with int8 weights
by ``vpmaddubsw``: it adds two neighbouring products in 16 bits and saturates there; only then are pairs
widened and added in 32 bits. Other instruction sets never leave 32 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from compressbert.nn.int8 import Int8Linear, integer_linear, saturating_pairs

_CHUNK = 2**22  # pair sums held at a time, as int32


def saturating_linear(q: Tensor, zero_point: Tensor, weight: Tensor) -> Tensor:
    """`nn.int8.integer_linear` as a kernel without VNNI computes it.

    The exact product, less what saturation takes from the pairs of weights that can saturate at all.

    Args:
        q: int8 (rows, in): activations - 128.
        zero_point: int32 scalar.
        weight: int8 (out, in).

    Returns:
        int32 (rows, out).
    """
    product = integer_linear(q, zero_point, weight)
    out, pair = torch.nonzero(saturating_pairs(weight), as_tuple=True)
    if len(out) == 0:
        return product
    odd = weight.shape[1] % 2
    activations = nn.functional.pad(q.int() + 128, (0, odd)).view(len(q), -1, 2)  # (rows, pairs, 2)
    weights = nn.functional.pad(weight.int(), (0, odd)).view(len(weight), -1, 2)  # (out, pairs, 2)
    step = max(1, _CHUNK // max(1, len(q)))
    for first in range(0, len(out), step):
        rows, columns = out[first : first + step], pair[first : first + step]
        sums = (activations[:, columns] * weights[rows, columns]).sum(dim=2, dtype=torch.int32)
        product.index_add_(1, rows, sums.clamp(-(2**15), 2**15 - 1) - sums)
    return product


@contextmanager
def without_vnni(network: nn.Module) -> Iterator[None]:
    """Inside the block the int8 products of ``network`` are those of a CPU without VNNI."""
    modules = [module for module in network.modules() if isinstance(module, Int8Linear)]
    for module in modules:
        module.product = saturating_linear
    try:
        yield
    finally:
        for module in modules:
            del module.product

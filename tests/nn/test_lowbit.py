"""Blocks of few bits: bounds by hand, packing that loses nothing, scales that are no worse than the plain ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from compressbert.nn.lowbit import LowBitEmbedding, LowBitLinear, dequantize_blocks, pack, quantize_blocks


def test_codes_by_hand() -> None:
    weight = torch.tensor([[-8.0, 7.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    codes, scale = quantize_blocks(weight, 4, 4)
    assert codes[0, 0].tolist() == [0, 15, 9, 8]  # the largest gets code 0, zero the middle one
    assert scale.tolist() == [[1.0], [1.0]]
    assert torch.equal(dequantize_blocks(codes, scale, 4, 4), weight)
    codes, scale = quantize_blocks(-weight, 4, 4)
    assert scale[0, 0] == -1
    assert torch.equal(dequantize_blocks(codes, scale, 4, 4), -weight)


@pytest.mark.parametrize("bits", [4, 8])
@settings(max_examples=60, deadline=None)
@given(arrays(np.float32, (2, 21), elements=st.floats(-3, 3, width=32)))
def test_no_block_is_worse_than_at_full_range(bits: int, values: np.ndarray) -> None:
    weight = torch.from_numpy(values)
    codes, scale = quantize_blocks(weight, bits, 8)
    assert codes.shape == (2, 3, 8)
    error = nn.functional.pad(weight - dequantize_blocks(codes, scale, bits, 21), (0, 3)).reshape(2, 3, 8)
    largest = nn.functional.pad(weight, (0, 3)).reshape(2, 3, 8).abs().amax(dim=2)
    step = largest / 2 ** (bits - 1)  # a value of the other sign may be cut by one step
    assert (error.square().sum(dim=2) <= 8 * step.square() * (1 + 1e-3) + 1e-30).all()


@given(arrays(np.uint8, (3, 2, 8), elements=st.integers(0, 15)))
def test_packing_loses_nothing(values: np.ndarray) -> None:
    packed = pack(torch.from_numpy(values), 4)
    assert packed.shape == (3, 2, 4)
    assert torch.equal(torch.stack([packed & 15, packed >> 4], dim=-1).flatten(-2), torch.from_numpy(values))


def test_modules_compute_with_the_weights_that_the_codes_stand_for() -> None:
    torch.manual_seed(0)
    linear, table = nn.Linear(40, 6), nn.Embedding(9, 40, padding_idx=0)
    low = LowBitLinear.from_linear(linear, bits=4, block=16)
    x = torch.randn(3, 40)
    weight = dequantize_blocks(low.codes, low.block_scale, 4, 40)
    assert torch.equal(low(x), nn.functional.linear(x, weight, linear.bias))
    assert 0 < (weight - linear.weight).abs().max() < 0.1
    rows = LowBitEmbedding.from_embedding(table, bits=8, block=16)
    ids = torch.tensor([[0, 8], [3, 3]])
    assert torch.equal(rows(ids)[0, 0], torch.zeros(40))
    assert (rows(ids) - table(ids)).abs().max() < 0.03

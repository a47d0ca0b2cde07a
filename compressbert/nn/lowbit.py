"""Weights in blocks of 4 or 8 bits, as onnxruntime's ``MatMulNBits`` and ``GatherBlockQuantized`` store them.

Each row is cut into blocks with an fp32 scale each: ``w ≈ scale · (code - 2^(bits - 1))``. The modules compute
in fp32 with the weights that the codes stand for, which is what those operators do. This makes files small;
products are no faster than in fp32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_SHRINK = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)  # parts of a block's full range that are tried


def quantize_blocks(weight: Tensor, bits: int, block: int) -> tuple[Tensor, Tensor]:
    """Codes and scales of a matrix; each block takes the scale with the smallest squared error of a few.

    Args:
        weight: (rows, columns), floating point.
        bits: 4 or 8.
        block: Columns that share a scale; the last block is filled up with zeros.

    Returns:
        codes uint8 (rows, blocks, block); scales fp32 (rows, blocks), 1 for a block of zeros. The value of
        largest magnitude gets the lowest code at full range, so a scale may be negative.
    """
    weight = weight.detach().float()
    middle = 2 ** (bits - 1)
    blocks = -(-weight.shape[1] // block)
    values = nn.functional.pad(weight, (0, blocks * block - weight.shape[1])).reshape(
        len(weight), blocks, block
    )
    largest = values.gather(2, values.abs().argmax(dim=2, keepdim=True))  # (rows, blocks, 1), with its sign
    best_codes, best_scale = torch.full_like(values, middle, dtype=torch.uint8), torch.ones_like(largest)
    best = torch.full_like(largest, torch.inf)
    for part in _SHRINK if bits == 4 else _SHRINK[:1]:
        scale = largest * (part / -middle)
        scale = torch.where(scale.abs() < torch.finfo(torch.float32).tiny, torch.ones_like(scale), scale)
        q = torch.round(values / scale).clamp_(-middle, middle - 1)
        error = (values - q * scale).square().sum(dim=2, keepdim=True)
        better = error < best
        best = torch.where(better, error, best)
        best_scale = torch.where(better, scale, best_scale)
        best_codes = torch.where(better, (q + middle).to(torch.uint8), best_codes)
    return best_codes, best_scale.squeeze(2)


def dequantize_blocks(codes: Tensor, scale: Tensor, bits: int, columns: int) -> Tensor:
    """The matrix (rows, columns) that codes (rows, blocks, block) and scales (rows, blocks) stand for."""
    values = (codes.float() - 2 ** (bits - 1)) * scale.unsqueeze(2)
    matrix: Tensor = values.flatten(1)[:, :columns].contiguous()
    return matrix


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes (..., n) as bytes (..., n · bits / 8): two codes of 4 bits in a byte, the first one low."""
    return codes if bits == 8 else codes[..., 0::2] | (codes[..., 1::2] << 4)


class LowBitLinear(nn.Linear):
    """A Linear whose weights lie on a grid of ``bits``; ``codes`` and ``block_scale`` say where."""

    codes: Tensor
    block_scale: Tensor
    bits: int

    @classmethod
    def from_linear(cls, linear: nn.Linear, *, bits: int, block: int) -> LowBitLinear:
        """Quantize ``linear``; the result shares nothing with it."""
        module = cls(linear.in_features, linear.out_features, linear.bias is not None)
        module.codes, module.block_scale = quantize_blocks(linear.weight, bits, block)
        module.bits = bits
        with torch.no_grad():
            module.weight.copy_(dequantize_blocks(module.codes, module.block_scale, bits, linear.in_features))
            if linear.bias is not None:
                module.bias.copy_(linear.bias)
        return module.train(linear.training)


class LowBitEmbedding(nn.Embedding):
    """An embedding table whose rows lie on a grid of ``bits``."""

    codes: Tensor
    block_scale: Tensor
    bits: int

    @classmethod
    def from_embedding(cls, embedding: nn.Embedding, *, bits: int, block: int) -> LowBitEmbedding:
        """Quantize ``embedding``; the result shares nothing with it."""
        module = cls(embedding.num_embeddings, embedding.embedding_dim, embedding.padding_idx)
        module.codes, module.block_scale = quantize_blocks(embedding.weight, bits, block)
        module.bits = bits
        with torch.no_grad():
            module.weight.copy_(
                dequantize_blocks(module.codes, module.block_scale, bits, embedding.embedding_dim)
            )
        return module.train(embedding.training)

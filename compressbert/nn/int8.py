"""Linear and embedding modules with int8 weights, computing what onnxruntime's dynamic int8 kernels compute.

Weights are symmetric per row (one scale per output channel or table row, zero point 0, range [-127, 127]).
Activations are quantized at run time to uint8, with one scale and zero point for the whole tensor of a call.
The source of this module travels with saved int8 models, so it depends on torch alone.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Quantize a matrix symmetrically per row: ``w ≈ scale · q`` with ``scale = max|row| / 127``.

    Args:
        weight: (rows, columns), floating point.

    Returns:
        q int8 (rows, columns) in [-127, 127], rounded half to even; scale fp32 (rows,), 1 for a row of zeros.
    """
    weight = weight.detach().float()
    scale = weight.abs().amax(dim=1) / 127
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    q = torch.round(weight / scale[:, None]).clamp_(-127, 127).to(torch.int8)
    return q, scale


def quantize_activations(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Quantize a whole tensor to uint8 as ONNX ``DynamicQuantizeLinear`` does, its range widened to hold
    zero.

    Returns:
        q - 128 as int8, in the shape of ``x`` (the shift keeps it in the range of signed integer kernels);
        scale, fp32 scalar, 1 for a tensor of zeros; zero point of the uint8 values, int32 scalar.
    """
    low, high = torch.aminmax(x)
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero_point = torch.round((-low / scale).clamp(0, 255))
    # Clamping before rounding and shifting gives the same integers: the bounds are integers.
    q = torch.round((x / scale).clamp(min=-zero_point, max=255 - zero_point)) + (zero_point - 128)
    return q.to(torch.int8), scale, zero_point.to(torch.int32)


@cache
def _integer_matmul_is_exact() -> bool:
    """Whether this CPU's int8 kernel adds in 32 bits; some without VNNI saturate 16-bit partial sums."""
    left = torch.tensor([[-128], [127], [1]], dtype=torch.int8).expand(3, 256).contiguous()
    right = torch.tensor([[127], [-127], [-1], [1]], dtype=torch.int8).expand(4, 256).contiguous()
    return torch.equal(torch._int_mm(left, right.t()).long(), left.long() @ right.long().t())


def integer_linear(q: Tensor, zero_point: Tensor, weight: Tensor) -> Tensor:
    """Exact ``(q + 128 - zero_point) @ weight.T`` over integers.

    Args:
        q: int8 (rows, in), from `quantize_activations`.
        zero_point: int32 scalar.
        weight: int8 (out, in).

    Returns:
        int32 (rows, out). Exact for ``in`` up to 66,000, where the largest sum would leave 32 bits.
    """
    if q.device.type == "cpu" and _integer_matmul_is_exact():
        # One more row of ones yields the row sums of the weights, which carry the zero point, in the same
        # product.
        padded = torch.ones(q.shape[0] + 1, q.shape[1], dtype=torch.int8)
        padded[:-1] = q
        product = torch._int_mm(padded, weight.t())
        return product[:-1] + (128 - zero_point) * product[-1]
    # Doubles hold every integer up to 2^53, so this product is exact on any device.
    shifted = q.double() + (128 - zero_point)
    return (shifted @ weight.double().t()).to(torch.int32)


class _Forward(torch.autograd.Function):
    """The int8 product, with a backward pass that refuses instead of silently giving no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
        q, x_scale, zero_point = quantize_activations(x.float().reshape(-1, x.shape[-1]))
        y = integer_linear(q, zero_point, weight).float() * (x_scale * scale.float())
        if bias is not None:
            y = y + bias.float()
        return y.to(x.dtype).reshape(*x.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise RuntimeError("int8 modules have no gradient: train the model first and quantize it afterwards")


class Int8Linear(nn.Module):
    """``y = s_x · s_w · (x_q - z_x) W_qᵀ + b`` with 32-bit integer accumulation, as
    ``DynamicQuantizeMatMul``.

    Buffers: ``weight`` int8 (out, in), ``scale`` fp32 (out,), ``bias`` fp32 (out,) or None.
    The range of the activations is that of the whole call, so an output depends slightly on its batch mates.
    It does not train: a backward pass through it raises RuntimeError.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.register_buffer("weight", torch.zeros(out_features, in_features, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(out_features, dtype=torch.float32))
        self.register_buffer("bias", torch.zeros(out_features, dtype=torch.float32) if bias else None)

    @classmethod
    def from_linear(cls, linear: nn.Linear) -> Int8Linear:
        """Quantize ``linear``; the result is on its device and shares nothing with it."""
        module = cls(linear.in_features, linear.out_features, linear.bias is not None)
        module.weight, module.scale = quantize_rows(linear.weight)
        module.bias = None if linear.bias is None else linear.bias.detach().float().clone()
        return module.train(linear.training)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out), in the type of ``x``."""
        y: Tensor = _Forward.apply(x, self.weight, self.scale, self.bias)  # type: ignore[no-untyped-call]
        return y

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )


class Int8Embedding(nn.Module):
    """An embedding table of int8 rows: row ``i`` is ``scale[i] · weight[i]``.

    Buffers: ``weight`` int8 (rows, columns), ``scale`` fp32 (rows,). It does not train.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None) -> None:
        super().__init__()
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_idx
        self.register_buffer("weight", torch.zeros(num_embeddings, embedding_dim, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(num_embeddings, dtype=torch.float32))

    @classmethod
    def from_embedding(cls, embedding: nn.Embedding) -> Int8Embedding:
        """Quantize ``embedding`` row by row; the result is on its device and shares nothing with it."""
        module = cls(embedding.num_embeddings, embedding.embedding_dim, embedding.padding_idx)
        module.weight, module.scale = quantize_rows(embedding.weight)
        return module.train(embedding.training)

    def forward(self, ids: Tensor) -> Tensor:
        """(...) ids to (..., columns), in the type of ``scale``."""
        return self.weight[ids].to(self.scale.dtype) * self.scale[ids].unsqueeze(-1)

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return f"{self.num_embeddings}, {self.embedding_dim}"

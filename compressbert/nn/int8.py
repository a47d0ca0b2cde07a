"""Linear and embedding modules with int8 weights, computing what onnxruntime's dynamic int8 kernels compute.

Weights are symmetric per row (one scale per output channel or table row, zero point 0, range [-127, 127]).
Activations are quantized at run time to uint8, with one scale and zero point for the whole tensor of a call.
Portable weights are those whose products no CPU can saturate: without VNNI, kernels add two neighbouring
products in 16 bits first. Weights are kept as (1, rows, columns): a stock network that is given them without
this code refuses their shape, where it would take the integers for weights. The source of this module travels
with saved int8 models, so it depends on torch alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn


def quantize_rows(weight: Tensor, *, portable: bool = False) -> tuple[Tensor, Tensor]:
    """Quantize a matrix symmetrically per row: ``w ≈ scale · q``, rounded half to even.

    Args:
        weight: (rows, columns), floating point.
        portable: Raise a row's scale until none of its pairs can saturate 16 bits, see `saturating_pairs`.

    Returns:
        q int8 (rows, columns) in [-127, 127]; scale fp32 (rows,), ``max|row| / 127`` or the larger one that
        ``portable`` needs, raised to the next fp16 number (by a thousandth at most); 1 for a row of zeros, or
        of values below 1e-36, whose scale fp32 cannot hold.
    """
    weight = weight.detach().float()
    low, high = torch.aminmax(weight, dim=1)
    scale = torch.maximum(-low, high) / 127
    if portable:
        affected = saturating_pairs(_rounded(weight, scale)).any(dim=1)
        # Two numbers that add up to 128 round to at most 128; the margin covers the division's last bits.
        needed = pair_sums(weight[affected]).amax(dim=1) / 127.999
        scale[affected] = torch.maximum(scale[affected], needed)
    scale = torch.where(scale < torch.finfo(torch.float32).tiny, torch.ones_like(scale), scale)
    scale = _raised_to_half(scale)
    return _rounded(weight, scale), scale


def _raised_to_half(scale: Tensor) -> Tensor:
    """The next fp16 number that is not smaller, where there is a normal one: files hold scales in half the bytes."""
    half = scale.half().float()
    half = torch.where(half < scale, (half * (1 + 0.6 * 2**-10)).half().float(), half)
    fits = (scale >= torch.finfo(torch.float16).tiny) & half.isfinite()
    return torch.where(fits, half, scale)


_AT_ONCE = 2**18  # weights whose fp32 quotients stay in a core's cache


def _rounded(weight: Tensor, scale: Tensor) -> Tensor:
    rounded = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    rows = max(1, _AT_ONCE // max(1, weight.shape[1]))
    for start in range(0, len(weight), rows):
        part = slice(start, start + rows)
        rounded[part] = (weight[part] / scale[part, None]).round_().nan_to_num_(0).clamp_(-127, 127)
    return rounded


def pair_sums(weight: Tensor) -> Tensor:
    """The larger of what the positive and what the negative weights of each pair of columns add up to.

    Pairs are columns 0 and 1, 2 and 3, …; a last odd column is a pair of its own. These are what
    ``vpmaddubsw`` adds in 16 bits: onnxruntime's kernels take four columns at a time, from column 0.

    Args:
        weight: (rows, columns).

    Returns:
        (rows, ⌈columns / 2⌉), not negative.
    """
    whole = nn.functional.pad(weight, (0, weight.shape[1] % 2))
    first, second = whole[:, 0::2], whole[:, 1::2]
    # Of two with one sign the sum is largest, of two with different signs one of them.
    return torch.maximum(torch.maximum(first.abs(), second.abs()), (first + second).abs())


def saturating_pairs(q: Tensor) -> Tensor:
    """Which pairs of int8 weights (rows, columns) some uint8 activations would saturate: bool (rows, pairs).

    Activations reach 255, and 255 · 128 = 32,640 is the last multiple of 255 within 16 bits; so a pair is
    safe exactly if `pair_sums` gives at most 128. One weight alone never gives more.
    """
    if q.shape[1] % 2:
        q = nn.functional.pad(q, (0, 1))
    return (q[:, 0::2].short() + q[:, 1::2]).abs_() > 128


Grid = tuple[Tensor, Tensor]


def grid(low: Tensor, high: Tensor) -> Grid:
    """Scale and zero point of the uint8 grid that spans [low, high], widened to hold zero.

    As ONNX ``DynamicQuantizeLinear``: fp32 scalars, the zero point an integer in [0, 255]; scale 1 for an
    empty range.
    """
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return scale, torch.round((-low / scale).clamp(0, 255))


def quantize_activations(x: Tensor, fixed: Grid | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Quantize a whole tensor to uint8 as ONNX ``DynamicQuantizeLinear`` does, or on a fixed grid.

    Args:
        x: Floating point.
        fixed: From `grid`; values beyond it are clipped, as by ``QuantizeLinear``. None: the range of ``x``.

    Returns:
        q - 128 as int8, in the shape of ``x`` (the shift keeps it in the range of signed integer kernels);
        scale, fp32 scalar; zero point of the uint8 values, int32 scalar.
    """
    scale, zero_point = grid(*torch.aminmax(x)) if fixed is None else fixed
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
    # With one input feature torch 2.13 reads past the end of a transposed weight.
    if q.device.type == "cpu" and q.shape[1] > 1 and _integer_matmul_is_exact():
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
    def forward(ctx: Any, x: Tensor, module: Int8Linear) -> Tensor:
        rows = x.float().reshape(-1, x.shape[-1])
        if module.divisor is not None:
            rows = rows / module.divisor
        q, x_scale, zero_point = quantize_activations(rows, module.fixed)
        y = module.product(q, zero_point, module.matrix).float() * (x_scale * module.scale.float())
        if module.bias is not None:
            y = y + module.bias.float()
        return y.to(x.dtype).reshape(*x.shape[:-1], module.out_features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise RuntimeError("int8 modules have no gradient: train the model first and quantize it afterwards")


class Int8Linear(nn.Module):
    """``y = s_x · s_w · (x_q - z_x) W_qᵀ + b`` with 32-bit integer accumulation, as
    ``DynamicQuantizeMatMul``.

    Buffers: ``weight`` int8 (1, out, in), ``scale`` fp32 (out,), ``bias`` fp32 (out,) or None.
    The range of the activations is that of the whole call, so an output depends slightly on its batch mates,
    unless ``fixed`` holds a calibrated grid. ``divisor``, fp32 (in,), divides ``x`` before it is quantized. Both
    are no part of the stored state.
    It does not train: a backward pass through it raises RuntimeError.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None
    fixed: Grid | None = None
    divisor: Tensor | None = None
    product: Callable[[Tensor, Tensor, Tensor], Tensor] = staticmethod(integer_linear)

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.register_buffer("weight", torch.zeros(1, out_features, in_features, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(out_features, dtype=torch.float32))
        self.register_buffer("bias", torch.zeros(out_features, dtype=torch.float32) if bias else None)

    @classmethod
    def from_linear(cls, linear: nn.Linear, *, portable: bool = True) -> Int8Linear:
        """Quantize ``linear``; the result is on its device and shares nothing with it."""
        module = cls(linear.in_features, linear.out_features, linear.bias is not None)
        matrix, module.scale = quantize_rows(linear.weight, portable=portable)
        module.weight = matrix[None]
        module.bias = None if linear.bias is None else linear.bias.detach().float().clone()
        return module.train(linear.training)

    @property
    def matrix(self) -> Tensor:
        """The weights as (out, in)."""
        return self.weight[0]

    def make_portable(self) -> int:
        """Quantize the rows that could saturate once more, with larger scales; returns how many there were."""
        rows = saturating_pairs(self.matrix).any(dim=1)
        dense = self.matrix[rows].float() * self.scale[rows, None]
        self.matrix[rows], self.scale[rows] = quantize_rows(dense, portable=True)
        return int(rows.sum())

    def divide_features(self, divisor: Tensor, *, portable: bool) -> None:
        """Divide input features before they are quantized, and multiply their weights: powers of two, fp32 (in,).

        Weights that stay within the range of their row's scale are multiplied exactly; other rows get a larger one.
        """
        pairs = torch.unique((divisor != 1).nonzero().squeeze(1) // 2)  # saturation is a matter of pairs
        columns = torch.stack([2 * pairs, 2 * pairs + 1], dim=1).flatten()
        columns = columns[columns < self.in_features]
        exact = self.matrix[:, columns].float() * divisor[columns]
        matrix = self.matrix.clone()
        matrix[:, columns] = exact.clamp(-127, 127).to(torch.int8)
        rows = (exact.abs() > 127).any(dim=1)
        if portable:
            rows |= saturating_pairs(matrix[:, columns]).any(dim=1)
        dense = self.matrix[rows].float() * divisor * self.scale[rows, None]
        matrix[rows], self.scale[rows] = quantize_rows(dense, portable=portable)
        self.weight, self.divisor = matrix[None], divisor

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out), in the type of ``x``."""
        y: Tensor = _Forward.apply(x, self)  # type: ignore[no-untyped-call]
        return y

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )


class Int8Embedding(nn.Module):
    """An embedding table of int8 rows: row ``i`` is ``scale[i] · weight[i]``.

    Buffers: ``weight`` int8 (1, rows, columns), ``scale`` fp32 (rows,). It does not train.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None) -> None:
        super().__init__()
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_idx
        self.register_buffer("weight", torch.zeros(1, num_embeddings, embedding_dim, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(num_embeddings, dtype=torch.float32))

    @classmethod
    def from_embedding(cls, embedding: nn.Embedding) -> Int8Embedding:
        """Quantize ``embedding`` row by row; the result is on its device and shares nothing with it."""
        module = cls(embedding.num_embeddings, embedding.embedding_dim, embedding.padding_idx)
        matrix, module.scale = quantize_rows(embedding.weight)
        module.weight = matrix[None]
        return module.train(embedding.training)

    @property
    def matrix(self) -> Tensor:
        """The weights as (rows, columns)."""
        return self.weight[0]

    def forward(self, ids: Tensor) -> Tensor:
        """(...) ids to (..., columns), in the type of ``scale``."""
        return self.matrix[ids].to(self.scale.dtype) * self.scale[ids].unsqueeze(-1)

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return f"{self.num_embeddings}, {self.embedding_dim}"

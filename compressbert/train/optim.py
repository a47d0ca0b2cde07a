"""How weights are updated: precision, parameter groups, learning rate, gradient clipping."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from compressbert.config.schema import TrainConfig


def use_bf16(precision: str, device: torch.device) -> bool:
    """Whether matrix products run in bfloat16; "auto" asks the hardware."""
    if precision != "auto":
        return precision == "bf16"
    return has_native_bf16(device)


def has_native_bf16(device: torch.device) -> bool:
    """Whether ``device`` multiplies bfloat16 matrices in hardware (AVX512-BF16 or AMX on x86, Ampere on)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    if platform.machine() in ("arm64", "aarch64"):
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    # torch offers these queries under private names only (2.7 to 2.13).
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def autocast(device: torch.device, enabled: bool) -> AbstractContextManager[object]:
    """Run matrix products in bfloat16; weights, reductions and the optimizer stay in float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def named_trainable(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Distinct parameters that take gradients, by the first name each is known under (tied ones once)."""
    return [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]


def build_optimizer(
    module: nn.Module, settings: TrainConfig, rate_of: Callable[[str], float] | None = None
) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; biases and LayerNorms (all tensors of rank 0 or 1) do not decay.

    Loshchilov & Hutter 2019 (arXiv 1711.05101). The fused kernel reads and writes each tensor once; on a
    2-core CPU it took a fifth of the time of the loop over tensors.

    Args:
        module: What is trained.
        settings: Rate, decay and epsilon.
        rate_of: Factor of the learning rate of a parameter, by its name in ``module``; default: 1 for all.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    factors = {name: 1.0 if rate_of is None else rate_of(name) for name, _ in named_trainable(module)}
    for decays in (True, False):
        for name, parameter in named_trainable(module):
            if (parameter.dim() > 1) == decays:
                groups.setdefault((factors[name], decays), []).append(parameter)
    described = [
        {"params": parameters, "factor": factor, "weight_decay": settings.weight_decay if decays else 0.0}
        for (factor, decays), parameters in groups.items()
    ]
    return torch.optim.AdamW(described, lr=settings.learning_rate, eps=settings.adam_epsilon, fused=True)


def learning_rate_at(step: int, total: int, settings: TrainConfig) -> float:
    """Learning rate of optimizer step ``step`` (from 0) of ``total``.

    Rises linearly over the first ``warmup`` fraction, reaching the peak at its last step, then follows the
    schedule; linear and cosine would reach 0 at step ``total``, so no step is wasted with rate 0.
    """
    warmup = math.ceil(settings.warmup * total)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    if settings.schedule == "constant":
        return settings.learning_rate
    done = (step - warmup) / max(1, total - warmup)
    factor = 1.0 - done if settings.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
    return settings.learning_rate * factor


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Use ``rate``, times its factor, for every group from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)


def clip_gradients(gradients: list[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients in place so that their joint Euclidean norm is at most ``max_norm`` (0: no clipping).

    Returns the norm before clipping, a scalar tensor; a non-finite one means that the step is lost.
    """
    norm = nn.utils.get_total_norm(gradients)
    if max_norm == 0.0:
        return norm
    # On a CPU reading the norm is free and skipping the multiplication by 1 saves a pass over all gradients;
    # on a GPU reading it would stop the queue.
    if norm.device.type != "cpu" or float(norm) > max_norm:
        scale = torch.clamp(max_norm / (norm + 1e-6), max=1.0)
        torch._foreach_mul_(gradients, scale)
    return norm

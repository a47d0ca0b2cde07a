"""How much each module's int8 form moves the model's output, and which modules stay fp32 so that quality holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compressbert.export.calibration import Range, fix_ranges
from compressbert.export.outliers import divide
from compressbert.model.edits import default_int8_modules
from compressbert.model.handle import Model
from compressbert.model.surgery import replace, to_int8
from compressbert.progress import note, track
from compressbert.results.record import ModuleSensitivity

Inputs = Mapping[str, NDArray[np.int64]]


def rank(
    model: Model,
    batches: Sequence[Inputs],
    *,
    portable: bool = True,
    ranges: Mapping[str, Range] | None = None,
    divisors: Mapping[str, Tensor] | None = None,
) -> list[ModuleSensitivity]:
    """Quantize one module at a time and measure what that does to the output; the worst comes first.

    Args:
        model: fp32, in evaluation mode; not changed.
        batches: Inputs (B, S), padded with a mask.
        portable: As in `edits.quantize_int8`.
        ranges: Calibrated ranges of activations; None takes those of each batch.
        divisors: What features are divided by before a module quantizes them.
    """
    trial = model.copy().eval()
    names = default_int8_modules(trial)
    reference = outputs(trial, batches)
    found = []
    with track("sensitivity", total=len(names), unit="modules") as shown:
        for name in names:
            dense = trial.network.get_submodule(name)
            replace(trial.network, name, to_int8(dense, name, empty=False, portable=portable))
            fix_ranges(trial, {name: ranges[name]} if ranges and name in ranges else {})
            divide(trial, {name: divisors[name]} if divisors and name in divisors else {}, portable=portable)
            shift = divergence(reference, outputs(trial, batches))
            replace(trial.network, name, dense)
            found.append(ModuleSensitivity(module=name, divergence=shift, bytes_saved=_saved(dense)))
            shown.advance(1)
    return sorted(found, key=lambda entry: (-entry.divergence, entry.module))


def worst_to_keep(
    ranked: Sequence[ModuleSensitivity], drop: Callable[[tuple[str, ...]], float], limit: float
) -> tuple[str, ...]:
    """The fewest of the worst modules that must stay fp32 for the drop in quality to be within ``limit``.

    The count is doubled until the drop is small enough, then the gap is halved: some ten evaluations for any
    model. A drop need not fall steadily with the count; the count returned was itself evaluated.

    Args:
        ranked: From `rank`.
        drop: Quality lost, in points of the metric, when these modules stay fp32.
        limit: Largest drop allowed; with every module at fp32 there is none.
    """
    order = [entry.module for entry in ranked]

    def holds(count: int) -> bool:
        lost = drop(tuple(order[:count]))
        note(f"{count} of {len(order)} modules at fp32: quality drop {lost:.4f}, allowed {limit:.4f}")
        return lost <= limit

    failing, count = 0, 1
    while count < len(order) and not holds(count):
        failing, count = count, 2 * count
    count = min(count, len(order))
    while count - failing > 1:
        middle = (failing + count) // 2
        failing, count = (failing, middle) if holds(middle) else (middle, count)
    return tuple(order[:count])


@torch.inference_mode()
def outputs(model: Model, batches: Iterable[Inputs]) -> Tensor:
    """Output rows of real texts or tokens: (texts, labels), or (tokens, width) for outputs per token."""
    rows = []
    for batch in batches:
        tensors = {name: torch.from_numpy(values).to(model.network.device) for name, values in batch.items()}
        found = model(**tensors)
        values = found.logits if "logits" in found else found.last_hidden_state
        rows.append(values[tensors["attention_mask"] == 1] if values.ndim == 3 else values)
    return torch.cat(rows).float()


def divergence(reference: Tensor, other: Tensor) -> float:
    """Mean KL divergence of the distributions that two sets of logits (rows, labels) stand for.

    With a single column, a regression, the squared difference over the variance of ``reference``.
    """
    if reference.shape[1] == 1:
        return float((other - reference).square().mean() / reference.var().clamp(min=1e-12))
    before, after = reference.double().log_softmax(dim=1), other.double().log_softmax(dim=1)
    return float((before.exp() * (before - after)).sum(dim=1).mean())


def _saved(dense: nn.Module) -> int:
    """Bytes that the int8 form of a module saves: three a weight, less four a row for the scales."""
    weight = dense.weight
    if not isinstance(weight, Tensor):
        raise TypeError(f"expected a module with a weight, found a {type(dense).__name__}")
    return 3 * weight.numel() - 4 * weight.shape[0]

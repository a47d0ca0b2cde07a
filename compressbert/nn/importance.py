"""What heads are worth to the loss, and which units a budget keeps. Cutting is done elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from compressbert.errors import ConfigError

Scope = Literal["global", "layer"]
BatchT = TypeVar("BatchT")


def gate_gradient(outputs: Tensor, gradients: Tensor, head_size: int) -> Tensor:
    """|∂L/∂ξ_h| of a gate ξ_h = 1 on each head's output, per example: |Σ Att_h · ∂L/∂Att_h|.

    Args:
        outputs: Att, the heads side by side, (B, S, A·d).
        gradients: ∂L/∂Att, (B, S, A·d), where L sums a loss per example.
        head_size: d.

    Returns:
        (B, A), in double precision. Padding contributes nothing: its gradient is 0.
    """
    return signed_gate_gradient(outputs, gradients, head_size).abs()


def signed_gate_gradient(outputs: Tensor, gradients: Tensor, head_size: int) -> Tensor:
    """∂L/∂ξ_h of `gate_gradient`, with its sign: gates that are one add up before the absolute value."""
    products = outputs.detach().double() * gradients.double()
    batch, length, width = products.shape
    heads = products.view(batch, length, width // head_size, head_size)  # (B, S, A, d)
    return heads.sum(dim=(1, 3))


def head_importance(
    projections: Sequence[nn.Module],
    head_size: int,
    batches: Iterable[BatchT],
    loss: Callable[[BatchT], Tensor],
) -> list[Tensor]:
    """Importance of every head: mean over examples of |∂L(x)/∂ξ_h| (Michel et al. 2019, arXiv 1905.10650).

    The absolute value is taken per example, before the mean, so examples that pull in opposite directions do
    not cancel. One backward pass per batch; weights collect no gradient.

    Args:
        projections: For each layer, the module that reads the concatenated head outputs. One that runs several times
            in a pass, for layers that share their weights, has one gate a head for all its runs.
        head_size: d, the width of one head.
        batches: Batches to score on.
        loss: Runs the model on a batch and returns the *sum* over its examples of the loss.

    Returns:
        For each layer, (heads,) scores in double precision.
    """
    seen: list[list[Tensor]] = [[] for _ in projections]

    def keep(index: int) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            outputs = inputs[0]
            if not outputs.requires_grad:  # frozen weights below: start the graph here
                outputs = outputs.detach().requires_grad_(True)
            seen[index].append(outputs)
            return (outputs, *inputs[1:])

        return hook

    handles = [module.register_forward_pre_hook(keep(index)) for index, module in enumerate(projections)]
    totals: list[Tensor] = []
    examples = 0
    try:
        for batch in batches:
            for runs in seen:
                runs.clear()
            value = loss(batch)
            gradients = iter(torch.autograd.grad(value, [outputs for runs in seen for outputs in runs]))
            scores = [
                _total(signed_gate_gradient(outputs, next(gradients), head_size) for outputs in runs)
                .abs()
                .cpu()
                for runs in seen
            ]
            totals = [s.sum(0) + (totals[i] if totals else 0.0) for i, s in enumerate(scores)]
            examples += len(scores[0])
    finally:
        for handle in handles:
            handle.remove()
    return [total / examples for total in totals]


def _total(parts: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(parts)).sum(dim=0)


def normalize_layers(scores: Sequence[Tensor]) -> list[Tensor]:
    """Divide each layer's scores by their L2 norm, so that layers compete on equal terms; zeros stay zero."""
    return [score / (float(score.norm()) or 1.0) for score in scores]


def choose_heads(
    scores: Sequence[Tensor],
    keep: float,
    *,
    scope: Scope,
    minimum: int = 1,
    counts: Sequence[int] | None = None,
) -> list[list[int]]:
    """Return the heads that survive in each layer: the best ``keep`` of all, and ``minimum`` in every layer.

    Args:
        scores: For each layer, (heads,) scores.
        keep: Fraction of heads that survive.
        scope: global ranks all heads together; layer keeps the same fraction of each layer.
        minimum: Heads every layer keeps (all of them where it has fewer).
        counts: Heads per layer that ``keep`` is a fraction of; default: those scored. A model pruned in
            several steps passes the counts it started from.

    Raises:
        ConfigError: The budget is smaller than the minimum allows.
    """
    return choose_units(scores, keep, scope=scope, minimum=minimum, counts=counts, unit="heads")


def choose_units(
    scores: Sequence[Tensor],
    keep: float,
    *,
    scope: Scope,
    minimum: int = 1,
    multiple: int = 1,
    counts: Sequence[int] | None = None,
    unit: str = "units",
) -> list[list[int]]:
    """Return the indices that survive in each layer, in rising order; equal scores keep the lower index.

    With ``multiple`` above 1 the survivors of each layer are rounded to the nearest multiple (never above
    what the layer has), for kernels that like round shapes; the budget is then met to within that rounding.

    Raises:
        ConfigError: The budget is smaller than the minimum allows.
    """
    sizes = [len(score) for score in scores]
    if keep == 1 and counts is None:
        return [list(range(size)) for size in sizes]
    counts = sizes if counts is None else counts
    floors = [min(minimum, size) for size in sizes]
    if scope == "layer":
        targets = [min(_nearest(keep * count), size) for count, size in zip(counts, sizes, strict=True)]
    else:
        targets = _global_targets(scores, min(_nearest(keep * sum(counts)), sum(sizes)), floors)
    _check_budget(targets, counts, floors, keep=keep, scope=scope, unit=unit)
    rounded = [min(_round_to(target, multiple), size) for target, size in zip(targets, sizes, strict=True)]
    return [_best(score, target) for score, target in zip(scores, rounded, strict=True)]


def _nearest(value: float) -> int:
    return math.floor(value + 0.5)


def _round_to(target: int, multiple: int) -> int:
    return max(_nearest(target / multiple), 1) * multiple


def _best(score: Tensor, count: int) -> list[int]:
    order = torch.argsort(score, descending=True, stable=True)
    return sorted(order[:count].tolist())


def _global_targets(scores: Sequence[Tensor], budget: int, floors: Sequence[int]) -> list[int]:
    """Return how many units each layer keeps when all compete: the floors first, then the best."""
    targets = list(floors)
    rest: list[tuple[float, int]] = []
    for layer, score in enumerate(scores):
        ranked = torch.sort(score, descending=True).values.tolist()
        rest += [(-value, layer) for value in ranked[floors[layer] :]]
    rest.sort()
    for _, layer in rest[: max(0, budget - sum(floors))]:
        targets[layer] += 1
    return targets if budget >= sum(floors) else [0] * len(targets)


def _check_budget(
    targets: Sequence[int],
    counts: Sequence[int],
    floors: Sequence[int],
    *,
    keep: float,
    scope: Scope,
    unit: str,
) -> None:
    short = [
        layer for layer, (target, floor) in enumerate(zip(targets, floors, strict=True)) if target < floor
    ]
    if not short:
        return
    if scope == "global":
        smallest = sum(floors) / sum(counts)
        found = f"{_nearest(keep * sum(counts))} of {sum(counts)} {unit}"
        needed = f"the {len(floors)} layers must keep {sum(floors)}"
    else:
        smallest = max(floor / count for floor, count in zip(floors, counts, strict=True))
        layer = short[0]
        found = f"{targets[layer]} of {counts[layer]} {unit} in layer {layer}"
        needed = f"it must keep {floors[layer]}"
    raise ConfigError(
        f"keep: {keep:g} leaves {found}, but {needed}",
        hint=f"The smallest possible keep is {math.ceil(smallest * 1000) / 1000:g}.",
    )

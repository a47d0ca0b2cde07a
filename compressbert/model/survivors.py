"""What an edit keeps, checked before anything changes: layers, heads, neurons or dimensions by their index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compressbert.errors import ConfigError
from compressbert.model.handle import Model
from compressbert.model.parts import Layer


def checked(indices: Sequence[int], count: int, noun: str, where: str = "") -> list[int]:
    """Sorted indices, each below ``count``, each once, at least one."""
    if not indices:
        raise ConfigError(
            f"No {noun} is left{where}: at least one must stay.", hint=f"Keep one {noun} or more."
        )
    for index in indices:
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
            raise ConfigError(
                f"There is no {noun} {index} of {count}{where}.", hint=f"Count {noun}s from 0 to {count - 1}."
            )
    unique = sorted(set(indices))
    if len(unique) != len(indices):
        twice = next(index for index in unique if list(indices).count(index) > 1)
        raise ConfigError(f"The {noun} {twice} is named twice{where}.", hint=f"Name each {noun} once.")
    return unique


def checked_per_layer(
    keep: Mapping[int, Sequence[int]], layers: Sequence[Layer], noun: str, counts: Sequence[int]
) -> dict[int, list[int]]:
    """Sorted survivors of each layer that loses something; everything is checked before anything changes."""
    if keep:
        checked(list(keep), len(layers), "layer")
    kept = {
        index: checked(list(keep[index]), counts[index], noun, f" in layer {index}") for index in sorted(keep)
    }
    return {index: survivors for index, survivors in kept.items() if len(survivors) < counts[index]}


def once_per_weights(kept: Mapping[int, list[int]], owners: Sequence[int], noun: str) -> dict[int, list[int]]:
    """Survivors by the first layer of each set that shares its weights.

    Args:
        kept: Survivors of each layer that loses something.
        owners: For every layer the first one with the same weights.
        noun: What survives, in the plural.

    Raises:
        ConfigError: Layers that share their weights would keep different ones.
    """
    found: dict[int, list[int]] = {}
    for owner in dict.fromkeys(owners):
        sharing = [layer for layer, other in enumerate(owners) if other == owner]
        survivors = [kept.get(layer) for layer in sharing]
        if any(each != survivors[0] for each in survivors):
            raise ConfigError(
                f"Layers {', '.join(map(str, sharing))} share their weights, so they keep the same {noun}.",
                hint=f"Name the same {noun} for each of them.",
            )
        if survivors[0] is not None:
            found[owner] = survivors[0]
    return found


def owners_of(model: Model) -> list[int]:
    """For every layer the first one with the same weights."""
    return model.family.owners(model.network)


def distinct_layers(model: Model) -> list[Layer]:
    """The layers with weights of their own: one of each set that shares them."""
    owners, layers = owners_of(model), model.family.layers(model.network)
    return [layer for index, layer in enumerate(layers) if owners[index] == index]


def spread(model: Model, chosen: Sequence[list[int]]) -> dict[int, list[int]]:
    """Survivors for every layer, from those of `distinct_layers`, in the same order."""
    owners = owners_of(model)
    first = dict(zip(dict.fromkeys(owners), chosen, strict=True))
    return {layer: first[owner] for layer, owner in enumerate(owners)}


def beside(kept: Sequence[int], width: int, *, times: int) -> list[int]:
    """``kept`` of each of several parts of this width that stand beside each other."""
    return [part * width + unit for part in range(times) for unit in kept]

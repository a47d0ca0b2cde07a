"""What an edit keeps, checked before anything changes: layers, heads, neurons or dimensions by their index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compressbert.errors import ConfigError
from compressbert.model.families import Layer


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

"""Which layers of a deep model a shallower one keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from compressbert.errors import ConfigError

Choice = Literal["every-other", "first", "last"]

# The list of the published DistilBERT (Sanh et al. 2019), which reaches both ends of the teacher.
PUBLISHED: dict[tuple[int, int], tuple[int, ...]] = {(12, 6): (0, 2, 4, 7, 9, 11)}


def every_other(count: int, keep: int) -> tuple[int, ...]:
    """Return ``keep`` of ``count`` layers, evenly spaced from the first: layers ⌊i · count / keep⌋.

    12 → 6 is the published list 0, 2, 4, 7, 9, 11 instead; 6 → 3 gives 0, 2, 4 and 12 → 3 gives 0, 4, 8.
    """
    return PUBLISHED.get((count, keep)) or tuple(i * count // keep for i in range(keep))


def choose_layers(count: int, layers: int | Sequence[int] | None, choice: Choice) -> tuple[int, ...]:
    """Return the layers to keep, from 0, in rising order.

    Args:
        count: Layers of the model.
        layers: How many to keep, or which; None for half of them (rounded up).
        choice: Which, when ``layers`` is a number.

    Raises:
        ConfigError: More layers than there are, none, an index out of range, or an index twice.
    """
    if layers is None:
        layers = (count + 1) // 2
    if not isinstance(layers, int):
        return listed_layers(count, layers)
    if not 1 <= layers <= count:
        raise ConfigError(
            f"layers: {layers} of {count}: the model has {count} layers",
            hint=f"Keep between 1 and {count} layers.",
        )
    if choice == "first":
        return tuple(range(layers))
    if choice == "last":
        return tuple(range(count - layers, count))
    return every_other(count, layers)


def listed_layers(count: int, layers: Sequence[int]) -> tuple[int, ...]:
    """Return a list of layers sorted, after checking that each one exists and is named once.

    Raises:
        ConfigError: The list is empty, or has an index out of range or twice.
    """
    outside = [layer for layer in layers if not 0 <= layer < count]
    if outside or not layers or len(set(layers)) != len(layers):
        problem = (
            f"there is no layer {outside[0]}"
            if outside
            else "a layer is named twice"
            if layers
            else "it is empty"
        )
        raise ConfigError(
            f"layers: {list(layers)}: {problem}; the model has layers 0 to {count - 1}",
            hint="List each layer once, counted from 0.",
        )
    return tuple(sorted(layers))


def uniform_matches(teacher_layers: int, student_layers: int) -> tuple[int, ...]:
    """The teacher's layer each of the student's is compared with: the last of its share, (i + 1) · L / M − 1.

    12 → 4 gives 2, 5, 8, 11: every third layer's output, the last one's among them (Jiao et al., arXiv 1909.10351).

    Raises:
        ConfigError: The student is deeper than its teacher.
    """
    if student_layers > teacher_layers:
        raise ConfigError(
            f"the student has {student_layers} layers, its teacher {teacher_layers}: they cannot be matched",
            hint="Give the student at most as many layers.",
        )
    return tuple((index + 1) * teacher_layers // student_layers - 1 for index in range(student_layers))

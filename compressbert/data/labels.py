"""Label names and ids: settled once, checked against a model's own, never permuted silently."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

from compressbert.errors import InputError

LabelValue: TypeAlias = str | int | float | bool
_GENERIC = re.compile(r"LABEL_\d+")
_INTEGER = re.compile(r"-?(0|[1-9]\d*)")


def is_generic(names: Sequence[str]) -> bool:
    """Whether names are only the placeholders LABEL_0, LABEL_1, … that a model without names carries."""
    return bool(names) and all(_GENERIC.fullmatch(name) for name in names)


def are_integers(names: Sequence[str]) -> bool:
    """Whether every name is an integer written out."""
    return bool(names) and all(_INTEGER.fullmatch(name) for name in names)


def plain(value: LabelValue) -> str | int:
    """A label as a name or an integer: true and false become words, 2.0 becomes 2. InputError for 2.5."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not value.is_integer():
            raise InputError(
                f"expected class labels, found the number {value}",
                hint="For a number to predict, set data.task to regression; else correct data.columns.label.",
            )
        return int(value)
    return value


def names_from_values(values: Sequence[str | int]) -> tuple[str, ...]:
    """Names for a data set that has none: the distinct labels, numbers by size and strings by alphabet."""
    names = sorted({str(value) for value in values})
    return tuple(sorted(names, key=int) if are_integers(names) else names)


def settle_names(
    values: Sequence[str | int],
    *,
    configured: Sequence[str] | None,
    stored: Sequence[str] | None,
    model: Sequence[str] | None,
    where: str,
) -> tuple[str, ...]:
    """The label names in the order of their ids.

    Args:
        values: The distinct labels of the data (see `plain`).
        configured: ``data.labels``.
        stored: Names that the data set itself declares (a ClassLabel column).
        model: Names of the model that will be used on the data, None or placeholders if it has none.
        where: The file or data set, for messages.

    Returns:
        The model's names where it has real ones, else the configured, else the stored, else those of the
        data.

    Raises:
        InputError: Two sources of names disagree in set or order, or their numbers differ.
    """
    if configured is not None and stored is not None:
        _same(configured, "data.labels", stored, f"{where} declares")
    declared = configured if configured is not None else stored
    if model and not is_generic(model):
        if declared is not None:
            _same(
                declared,
                "data.labels" if configured is not None else f"{where} declares",
                model,
                "the model has",
            )
        return tuple(model)
    names = tuple(declared) if declared is not None else names_from_values(values)
    if (
        model
        and declared is None
        and are_integers(names)
        and all(0 <= int(name) < len(model) for name in names)
    ):
        names = tuple(str(index) for index in range(len(model)))  # plain ids; this file may not show all
    if model and len(names) != len(model):
        raise InputError(
            f"{where}: expected labels for the model's {len(model)} outputs, found {len(names)} labels: "
            f"{_listed(names)}",
            hint="Use a model with as many outputs, or list all names in data.labels in id order.",
        )
    return names


def ids_of(
    values: Sequence[str | int], names: Sequence[str], *, stored: bool = False
) -> dict[str | int, int]:
    """The id of each distinct label that has one; a label left out has none.

    A string is found by its name. An integer is an id, except where the names are integers themselves ("1" …
    "5" stars): then it is found by name as well. Strings that are all integers ("0", "1" of a csv file) are
    integers.

    Args:
        values: The distinct labels of the data.
        names: The settled names.
        stored: The integers are ids whatever the names look like (a ClassLabel column).
    """
    by_name = {name: index for index, name in enumerate(names)}
    named_by_integers = are_integers(names) and not stored
    written = are_integers([value for value in values if isinstance(value, str)])
    found: dict[str | int, int] = {}
    for value in values:
        if isinstance(value, str) and value in by_name:
            found[value] = by_name[value]
        elif isinstance(value, int) and named_by_integers:
            if str(value) in by_name:
                found[value] = by_name[str(value)]
        elif (isinstance(value, int) or (written and not named_by_integers)) and 0 <= int(value) < len(names):
            found[value] = int(value)
    return found


def worst_of(unknown: Sequence[str | int]) -> str | int:
    """Which of the labels without an id to report: a word among numbers is the likelier mistake."""
    words = [value for value in unknown if isinstance(value, str) and not are_integers([value])]
    return words[0] if words else unknown[0]


def explain_unknown(
    value: str | int, values: Sequence[str | int], names: Sequence[str], where: str
) -> InputError:
    """The error for a label without an id; ``where`` says which row."""
    if isinstance(value, int) or are_integers([value]):
        expected = f"expected one of the labels {_listed(names)}"
        if not are_integers(names):
            expected = f"expected a label from 0 to {len(names) - 1} ({_listed(names)})"
        return InputError(
            f"{where}: {expected}, found {value}", hint="Correct the row, or data.labels, or the model."
        )
    strings = sorted(str(value) for value in values)
    return InputError(
        f"{where}: expected one of the labels {_listed(names)}, found {value!r}; the data's labels are "
        f"{_listed(strings)}",
        hint="Rename the data's labels so that each is one of the model's, or use a model trained on them.",
    )


def _same(left: Sequence[str], left_name: str, right: Sequence[str], right_name: str) -> None:
    if tuple(left) == tuple(right):
        return
    what = "order" if sorted(left) == sorted(right) else "names"
    raise InputError(
        f"label {what} differ: {left_name} {_listed(left)}, but {right_name} {_listed(right)}",
        hint="Give the names in the order of the model's ids; ids are never reordered silently.",
    )


def _listed(names: Sequence[str], most: int = 20) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return f"{shown}, … ({len(names)} in all)" if len(names) > most else shown

"""Augmented splits: every row and the new texts made of it, without labels, kept in the cache like other read data.

Rows stream through some hundred at a time, so memory does not grow with their number. What is made of a row depends
on the seed and on its number alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import datasets
import numpy as np

from compressbert.data.files import disk_full, key_of
from compressbert.data.read import Split
from compressbert.data.tables import quiet

_ROWS_AT_ONCE = 256
_SCHEMA = 1  # raise it when the meaning of stored rows changes


class Variable(Protocol):
    """A text that new ones can be made of."""

    def vary(self, random: np.random.Generator) -> str | None:
        """A new text; None where none came about."""


class Maker(Protocol):
    """Makes new texts."""

    def prepare(self, texts: Sequence[str]) -> Sequence[Variable]:
        """What is needed to make new ones of these."""


def augmented(
    split: Split, make: Callable[[], Maker], *, variants: int, seed: int, depends_on: Sequence[object]
) -> Split:
    """The rows of a split, each followed by new ones made of it; their labels are dropped, for nobody knows the new.

    Args:
        split: Rows of one or two texts.
        make: Gives the maker; called only where the result is not in the cache.
        variants: How many new ones are tried for each row; of equal ones, one is kept.
        seed: Of everything random.
        depends_on: What the maker depends on besides the rows, for the name in the cache.
    """
    texts = [name for name in ("text", "text_pair") if name in split.rows.column_names]
    makers: list[Maker] = []

    def convert(batch: dict[str, list[str]], numbers: list[int]) -> dict[str, list[str]]:
        if not makers:
            makers.append(make())
        columns = [makers[0].prepare(batch[name]) for name in texts]
        found: list[tuple[str, ...]] = []
        for row, number in enumerate(numbers):
            original = tuple(batch[name][row] for name in texts)
            random = np.random.default_rng([seed, number])
            found += _variants(original, [column[row] for column in columns], variants, random)
        return {name: [made[place] for made in found] for place, name in enumerate(texts)}

    key = key_of("augmented", _SCHEMA, split.rows._fingerprint, texts, variants, seed, *depends_on)
    return replace(split, rows=_mapped(split.rows.select_columns(texts), convert, key))


def _variants(
    original: tuple[str, ...], parts: Sequence[Variable], count: int, random: np.random.Generator
) -> list[tuple[str, ...]]:
    """The original and what is made of it. Of a pair the first text is varied, the second, or both, in turn.

    Every new row starts from the original, never from a row made before it.
    """
    found = dict.fromkeys([original])
    for number in range(count):
        varied = range(len(parts)) if len(parts) == 1 or number % 3 == 2 else (number % 3,)
        made = list(original)
        for place in varied:
            text = parts[place].vary(random)
            if text is None:
                break
            made[place] = text
        else:
            found.setdefault(tuple(made))
    return list(found)


def _mapped(rows: datasets.Dataset, convert: Callable[..., Any], key: str) -> datasets.Dataset:
    features = datasets.Features({name: datasets.Value("large_string") for name in rows.column_names})
    try:
        with quiet():
            return rows.map(
                convert, batched=True, batch_size=_ROWS_AT_ONCE, with_indices=True, features=features,
                remove_columns=rows.column_names, new_fingerprint=key,
            )  # fmt: skip
    except OSError as error:
        raise disk_full(error) or error from error

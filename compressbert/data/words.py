"""Columns of words: checked lists of strings, and tags that must be as many."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from compressbert.data.tables import Table
from compressbert.errors import InputError

WORDS = datasets.List(datasets.Value("string"))


def read_words(batch: pa.Table, column: str, table: Table, first: int) -> Any:
    """A list of strings for each row, none of them missing and no list empty.

    Args:
        batch: Some rows of the table.
        column: The column of lists.
        table: Where they come from, for messages.
        first: Number of the batch's first row.

    Raises:
        InputError: Not lists of strings, a row without words, or a word that is missing.
    """
    values = batch[column].combine_chunks()
    inner = getattr(values.type, "value_type", None)
    if inner is None or not (pa.types.is_string(inner) or pa.types.is_large_string(inner)):
        raise InputError(
            f"{table.name}: expected lists of words in column {column!r}, found {values.type}",
            hint='Give json lines such as {"tokens": ["Paris", "is", "old"], "ner_tags": ["B-LOC", "O", "O"]}.',
        )
    empty = pc.fill_null(pc.equal(pc.list_value_length(values), 0), True)
    if pc.any(empty).as_py():
        row = first + int(np.flatnonzero(empty.to_numpy(zero_copy_only=False))[0])
        raise InputError(
            f"{table.place(row)}: expected words in {column!r}, found none", hint="Drop the row."
        )
    if values.flatten().null_count:
        row = first + next(i for i, words in enumerate(values.to_pylist()) if None in words)
        raise InputError(f"{table.place(row)}: a word in {column!r} is null", hint="Correct or drop the row.")
    return values.cast(pa.list_(pa.string()))


def joined(words: Any) -> pa.Array:
    """The words of each row with blanks between them."""
    return pc.binary_join(words, " ").cast(pa.large_string())


def check_counts(words: Any, tags: Any, table: Table, first: int) -> None:
    """Refuse a row that has not one tag for each word (InputError names it)."""
    counts = [pc.list_value_length(column).to_numpy(zero_copy_only=False) for column in (words, tags)]
    wrong = np.flatnonzero(counts[0] != counts[1])
    if len(wrong):
        row = int(wrong[0])
        raise InputError(
            f"{table.place(first + row)}: expected one tag for each word, found {counts[0][row]} words and "
            f"{counts[1][row]} tags",
            hint="Correct or drop the row.",
        )

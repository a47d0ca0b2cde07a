"""Columns of words: checked lists of strings, and tags that must be as many."""

from __future__ import annotations

import re
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from compressbert.data.tables import Table
from compressbert.errors import InputError

WORDS = datasets.List(datasets.Value("string"))
_WORD = re.compile(r"\w(?:\S*\w)?|\S")  # from a letter or digit to the last one, or a sign alone


def read_words(batch: pa.Table, column: str, table: Table, first: int, *, split_texts: bool = False) -> Any:
    """A list of strings for each row, none of them missing and no list empty.

    Args:
        batch: Some rows of the table.
        column: The column of lists.
        table: Where they come from, for messages.
        first: Number of the batch's first row.
        split_texts: Take plain texts too, and cut them as corpora of tags are cut: at blanks, and punctuation at
            either end of a word stands alone. A text without any word gives an empty list.

    Raises:
        InputError: Not lists of strings, a row without words, or a word that is missing.
    """
    values = batch[column].combine_chunks()
    if split_texts and (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return _split(values, table, first)
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


def _split(values: Any, table: Table, first: int) -> Any:
    if values.null_count:
        row = first + int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
        raise InputError(f"{table.place(row)}: expected a text, found none", hint="Fill or drop the row.")
    cut = [[word for part in text.split() for word in _WORD.findall(part)] for text in values.to_pylist()]
    return pa.array(cut, pa.list_(pa.string()))


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

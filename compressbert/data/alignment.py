"""The same rows cut by two tokenizers: which examples, and which words, are each other."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compressbert.data.batches import Batch
from compressbert.data.encode import Encoded
from compressbert.errors import InputError


def same_examples(batch: Batch, own: Encoded, other: Encoded) -> NDArray[np.int64]:
    """The examples of ``other`` that hold what a batch of ``own`` holds.

    Where rows are split into windows, those of two tokenizers do not match: the nth of a row stands for its nth, or
    for its last where there are fewer.
    """
    examples: NDArray[np.int64] = batch.examples.numpy()[: len(batch) // own.group] // own.group
    if own.source_rows is None or other.source_rows is None:
        return examples
    rows = own.source_rows[examples]
    nth = examples - np.searchsorted(own.source_rows, rows)
    first = np.searchsorted(other.source_rows, rows, side="left")
    end = np.searchsorted(other.source_rows, rows, side="right")
    return np.asarray(np.minimum(first + nth, end - 1))


def matching_words(ours: Tensor, theirs: Tensor) -> Tensor:
    """Where each of our words stands among theirs.

    Args:
        ours: (B, S) `Batch.words`: the word that begins at a piece, or -1.
        theirs: (B, T) of the same rows.

    Returns:
        For each of our words, row by row, its number among theirs, counted in the same way.

    Raises:
        InputError: One of our words was cut off theirs.
    """
    span = int(max(ours.max(), theirs.max())) + 1

    def keys(words: Tensor) -> Tensor:
        row, place = torch.nonzero(words >= 0, as_tuple=True)
        return row * span + words[row, place]

    wanted, known = keys(ours), keys(theirs)
    found = torch.searchsorted(known, wanted).clamp(max=max(len(known) - 1, 0))
    if len(wanted) and (len(known) == 0 or bool((known[found] != wanted).any())):
        raise InputError(
            "the teacher's tokenizer cuts a row before words that the student reads",
            hint="Set a smaller data.max_length.",
        )
    return found

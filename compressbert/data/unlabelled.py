"""Texts without labels from one file or several, mixed so that small languages are heard.

A file of n rows has a share of n^exponent of all rows, as multilingual BERT samples its languages (exponent 0.7).
Whole copies of a small file are followed by a draw without replacement, so no row stands in the mixture more than
once more often than another of its file.
"""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import numpy as np
from numpy.typing import NDArray

from compressbert.config.schema import DataConfig
from compressbert.data.files import key_of
from compressbert.data.read import Split, read_split
from compressbert.errors import InputError


def read_unlabelled(config: DataConfig, label_names: tuple[str, ...], *, seed: int) -> Split:
    """The mixture of ``config.unlabelled.files``: rows as `data.read.Split` has them, without labels.

    Args:
        config: The data section; task and columns apply to these files too.
        label_names: Of the task the texts are for.
        seed: Of the draw.

    Raises:
        InputError: A file is unusable (the message says which line), or some have second texts and others not.
    """
    settings = config.unlabelled
    parts = []
    for file in settings.files:
        own = config.model_copy(update={"train": file, "hub": None, "max_train_rows": None})
        parts.append(read_split(own, "train", need_labels=False))
    layouts = {tuple(part.rows.column_names) for part in parts}
    if len(layouts) > 1:
        raise InputError(
            f"data.unlabelled: expected files with the same columns, found {sorted(layouts)}",
            hint="Give files of texts alone, or of pairs alone.",
        )
    counts = [len(part.rows) for part in parts]
    wanted = shares(counts, settings.exponent, settings.rows or sum(counts))
    drawn = [
        draw(count, want, [seed, number])
        for number, (count, want) in enumerate(zip(counts, wanted, strict=True))
    ]
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    chosen = np.concatenate([start + rows for start, rows in zip(starts, drawn, strict=True)])
    rows = datasets.concatenate_datasets([part.rows for part in parts])
    key = key_of("mixture", [part.rows._fingerprint for part in parts], wanted, seed)
    files = {file: digest for part in parts for file, digest in part.files.items()}
    return Split(rows.select(chosen, new_fingerprint=key), label_names, files)


def shares(counts: Sequence[int], exponent: float, rows: int) -> list[int]:
    """How many of ``rows`` each file of so many rows gives: ∝ count^exponent, rounded by largest remainder."""
    weights = np.asarray(counts, np.float64) ** exponent
    exact = weights / weights.sum() * rows
    whole = np.floor(exact).astype(int)
    most_missed = np.argsort(whole - exact, kind="stable")[: rows - int(whole.sum())]
    whole[most_missed] += 1
    return [int(number) for number in whole]


def draw(count: int, wanted: int, seed: Sequence[int]) -> NDArray[np.int64]:
    """``wanted`` of ``count`` rows in ascending order: whole copies, and a seeded draw for the rest."""
    copies, rest = divmod(wanted, count)
    few = np.random.default_rng(list(seed)).permutation(count)[:rest]
    return np.sort(np.concatenate([np.tile(np.arange(count), copies), few])).astype(np.int64)

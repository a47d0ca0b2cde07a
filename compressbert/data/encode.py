"""Tokenizes a split once into flat memory-mapped arrays, kept in a cache by everything they depend on.

Rows stream through in chunks and are appended to files, so memory does not grow with their number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import datasets
import numpy as np
from numpy.typing import NDArray

from compressbert import progress
from compressbert.config.schema import AnswerSettings, MaskingSettings, Settings, TaskKind
from compressbert.data.array_store import ArrayWriter, open_arrays, store_arrays
from compressbert.data.files import cache_folder, disk_full, key_of
from compressbert.data.layouts import (
    Layout,
    Texts,
    TextsApart,
    Windows,
    Words,
    cutter_of,
    with_leading_blanks,
)
from compressbert.data.masking import Masking
from compressbert.data.read import Split
from compressbert.errors import InputError, WorkError

_SCHEMA = 2  # raise it when the meaning of stored arrays changes
_COUNTED_AT_ONCE = 1 << 22


class _Task(Protocol):
    @property
    def kind(self) -> TaskKind: ...
    @property
    def settings(self) -> Settings | None: ...


@dataclass(frozen=True)
class Origin:
    """What rows were encoded from, so that another tokenizer can encode them too."""

    split: Split
    task: _Task
    max_length: int
    cache: Path | None


@dataclass(frozen=True)
class Encoded:
    """A split as token ids. ``len()`` is its number of examples: what is shuffled, sampled and batched.

    An example is one sequence, except for pairs of sentence embedding (two) and for question answering, where
    it is one window of a row's context.

    Attributes:
        ids: (tokens,) int32, all sequences one after another, special tokens included.
        types: (tokens,) uint8 token types, None for models without them.
        offsets: (sequences + 1,) int64; sequence i is ``ids[offsets[i]:offsets[i + 1]]``.
        labels: (examples,) int64 ids, (examples,) float32 numbers, (examples, classes) float32 of 0 and 1, or
            (examples, 2) int64 first and last token of an answer; None without labels.
        truncated: How many rows were cut.
        max_length: Word pieces after which rows were cut.
        key: Names the content: two with the same key hold the same arrays.
        masking: How words are masked where the task is masked-lm (batches then carry masked ids and labels),
            else None.
        group: Sequences in an example.
        token_labels: (tokens,) int32 tag ids at first pieces of words, else -100; token classification only.
        token_places: Where each token stands in its row, -1 where nowhere. Token classification: (tokens,)
            the word that begins there; question answering: (tokens, 2) characters of the context.
        source_rows: (examples,) the row of ``source`` that each came from, where that is not its own number.
        source: The rows themselves, where scoring needs them.
        pairs: Whether a sequence holds two texts, one after the other.
        origin: What all of this was encoded from; None for a subset.
    """

    ids: NDArray[np.int32]
    types: NDArray[np.uint8] | None
    offsets: NDArray[np.int64]
    labels: NDArray[Any] | None
    truncated: int
    max_length: int
    key: str
    masking: Masking | None = None
    group: int = 1
    token_labels: NDArray[np.int32] | None = None
    token_places: NDArray[np.int32] | None = None
    source_rows: NDArray[np.int64] | None = None
    source: datasets.Dataset | None = None
    pairs: bool = False
    origin: Origin | None = None

    def __len__(self) -> int:
        return self.sequences // self.group

    @property
    def sequences(self) -> int:
        """How many sequences there are."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(sequences,) word pieces of each sequence."""
        return np.diff(self.offsets)

    @property
    def row_lengths(self) -> NDArray[np.int64]:
        """(rows,) word pieces of the longest sequence of each row."""
        longest = self.lengths.reshape(-1, self.group).max(axis=1)
        if self.source_rows is None:
            return np.asarray(longest)
        rows = np.zeros(int(self.source_rows.max()) + 1, np.int64)
        np.maximum.at(rows, self.source_rows, longest)
        return rows

    def sequences_of(self, examples: NDArray[np.int64]) -> NDArray[np.int64]:
        """The sequences of these examples: first those that come first in their example, then the others."""
        if self.group == 1:
            return examples
        return np.concatenate([examples * self.group + part for part in range(self.group)])

    def subset(self, rows: Sequence[int] | NDArray[np.integer[Any]]) -> Encoded:
        """These examples, in this order, copied into memory: for samples, not for most of a corpus.

        The result stands on its own: its examples are numbered from 0, and outputs cached for the whole do
        not apply to it (its key differs). ``truncated`` counts the whole split.
        """
        chosen = np.asarray(rows, dtype=np.int64)
        if len(chosen) and (chosen.min() < 0 or chosen.max() >= len(self)):
            raise InputError(
                f"subset: expected rows from 0 to {len(self) - 1}, found {chosen.min()} to {chosen.max()}"
            )
        inside = (chosen[:, None] * self.group + np.arange(self.group)).reshape(-1)
        positions, lengths = token_positions(self.offsets, inside)
        sources = chosen if self.source_rows is None else self.source_rows[chosen]

        def take(array: NDArray[Any] | None, where: NDArray[np.int64]) -> NDArray[Any] | None:
            return None if array is None else array[where]

        return replace(
            self,
            ids=self.ids[positions],
            types=take(self.types, positions),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            labels=take(self.labels, chosen),
            key=key_of("subset", self.key, hashlib.sha256(chosen.tobytes()).hexdigest()),
            token_labels=take(self.token_labels, positions),
            token_places=take(self.token_places, positions),
            source_rows=None if self.source is None else sources,
            origin=None,
        )


def token_counts(encoded: Encoded, vocabulary: int) -> NDArray[np.int64]:
    """(vocabulary,) how often each word piece occurs, counted some at a time: a corpus is never in memory."""
    counts = np.zeros(vocabulary, dtype=np.int64)
    for start in range(0, len(encoded.ids), _COUNTED_AT_ONCE):
        counts += np.bincount(encoded.ids[start : start + _COUNTED_AT_ONCE], minlength=vocabulary)
    return counts


def token_positions(
    offsets: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the rows' tokens in the flat arrays, row after row, and the rows' lengths."""
    starts = offsets[rows]
    lengths = offsets[rows + 1] - starts
    before = np.cumsum(lengths) - lengths  # tokens of the rows before
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum()), lengths


def encode(
    split: Split, tokenizer: Any, *, task: _Task, max_length: int, cache: Path | None = None
) -> Encoded:
    """Tokenize a split, or open what an earlier call left in the cache.

    Args:
        split: The rows.
        tokenizer: The model's fast tokenizer (transformers).
        task: Its kind and settings decide how rows are laid out, and how words are masked.
        max_length: Longest sequence in word pieces, special tokens included; the tokenizer's own limit
            applies too. Longer rows are cut as the model's tokenizer cuts them, counted, and the count is
            noted; contexts of questions are split instead.
        cache: Cache folder; default `files.cache_folder()`.

    Raises:
        InputError: The tokenizer is not a fast one, or has no mask token where the task needs it.
        ConfigError: ``max_length`` leaves no room for text.
        WorkError: The cache's disk is full.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError(
            f"expected a fast tokenizer, found {type(tokenizer).__name__}",
            hint="Give the model folder a tokenizer.json.",
        )
    limit = min(max_length, tokenizer.model_max_length)  # one without a limit of its own says 1e30
    layout, described = _layout(split, tokenizer, task, limit)
    with_types = "token_type_ids" in tokenizer.model_input_names
    # The tokenizer's description holds vocabulary, normaliser, template and limit: whatever changes an id
    # changes the key.
    tokens = hashlib.sha256(described.encode()).hexdigest()
    key = key_of(
        "tokenized", _SCHEMA, split.rows._fingerprint, split.label_names, tokens, with_types, task.kind
    )
    folder = (cache or cache_folder()) / "tokenized" / key
    stored = open_arrays(folder)
    if stored is None:
        stored = _build(folder, split, layout, with_types)
    arrays, facts = stored
    truncated = int(facts["truncated"])
    _note_truncated(truncated, split, layout, limit)
    return Encoded(
        arrays["ids"],
        arrays.get("types"),
        arrays["offsets"],
        arrays.get("labels"),
        truncated,
        limit,
        key,
        Masking.of(tokenizer, task.settings) if isinstance(task.settings, MaskingSettings) else None,
        layout.group,
        arrays.get("token_labels"),
        arrays.get("token_places"),
        arrays.get("source_rows"),
        split.rows if isinstance(layout, Windows | Words) else None,
        isinstance(layout, Texts) and "text_pair" in split.rows.column_names,
        Origin(split, task, max_length, cache),
    )


def _note_truncated(truncated: int, split: Split, layout: Layout, limit: int) -> None:
    if truncated:
        what = "questions" if isinstance(layout, Windows) else "rows"
        most = layout.settings.max_question if isinstance(layout, Windows) else limit
        progress.note(f"{truncated:,} of {len(split.rows):,} {what} cut at {most} word pieces")


def encode_again(encoded: Encoded, tokenizer: Any) -> Encoded:
    """The same rows cut by another tokenizer.

    Raises:
        InputError: As `encode`, or the rows are a subset of some.
    """
    origin = encoded.origin
    if origin is None:
        raise InputError(
            "a sample of rows cannot be cut by another tokenizer", hint="Encode the rows themselves."
        )
    return encode(origin.split, tokenizer, task=origin.task, max_length=origin.max_length, cache=origin.cache)


def _layout(split: Split, tokenizer: Any, task: _Task, limit: int) -> tuple[Layout, str]:
    """The layout of a kind of task, and a text that says all that its ids depend on."""
    backend, side = tokenizer.backend_tokenizer, tokenizer.truncation_side
    pair = "text_pair" in split.rows.column_names
    if isinstance(task.settings, AnswerSettings):
        whole = cutter_of(backend, limit, side, pair=True)
        whole.no_truncation()
        windows = Windows(whole, limit, task.settings)
        return windows, f"{whole.to_str()} {limit} {windows.stride} {task.settings.max_question}"
    if task.kind == "token-classification":
        cutter = cutter_of(with_leading_blanks(backend), limit, side, pair=False)
        return Words(cutter), cutter.to_str()
    cutter = cutter_of(backend, limit, side, pair=pair and task.kind != "sentence-embedding")
    if task.kind == "sentence-embedding":
        return TextsApart(cutter, 2 if pair else 1), cutter.to_str()
    return Texts(cutter), cutter.to_str()


def _build(
    folder: Path, split: Split, layout: Layout, with_types: bool
) -> tuple[dict[str, NDArray[Any]], Any]:
    try:
        with store_arrays(folder) as writer, progress.track("tokenizing", len(split.rows), "rows") as shown:
            truncated = 0
            end = np.zeros(1, dtype=np.int64)
            writer.append("offsets", end)
            for pieces in layout.pieces(split.rows):
                truncated += pieces.cut
                _append(writer, pieces.encodings, end, with_types)
                for name, values in pieces.arrays.items():
                    writer.append(name, values)
                end = end + sum(len(encoding) for encoding in pieces.encodings)
                shown.advance(pieces.rows)
            writer.facts["truncated"] = truncated
    except OSError as error:
        full = disk_full(error)
        if full is not None:
            raise full from error
        raise
    stored = open_arrays(folder)
    if stored is None:
        raise WorkError(f"{folder}: tokenized data cannot be read back", hint="Check the disk of the cache.")
    return stored


def _append(writer: ArrayWriter, encodings: Sequence[Any], end: NDArray[np.int64], with_types: bool) -> None:
    lengths = np.fromiter((len(encoding) for encoding in encodings), dtype=np.int64, count=len(encodings))
    total = int(lengths.sum())
    tokens = (token for encoding in encodings for token in encoding.ids)
    writer.append("ids", np.fromiter(tokens, dtype=np.int32, count=total))
    if with_types:
        kinds = (kind for encoding in encodings for kind in encoding.type_ids)
        writer.append("types", np.fromiter(kinds, dtype=np.uint8, count=total))
    writer.append("offsets", end + np.cumsum(lengths))

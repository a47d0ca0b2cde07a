"""Tokenizes a split once into flat memory-mapped arrays, kept in a cache by everything they depend on.

Rows stream through in chunks and are appended to files, so memory does not grow with their number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from compressbert import progress
from compressbert.config.schema import TaskKind
from compressbert.data.array_store import ArrayWriter, open_arrays, store_arrays
from compressbert.data.files import cache_folder, disk_full, key_of
from compressbert.data.masking import Masking
from compressbert.data.read import Split
from compressbert.errors import ConfigError, InputError, WorkError

_SCHEMA = 1  # raise it when the meaning of stored arrays changes
_ROWS_AT_ONCE = 1000
_CHARACTERS_AT_ONCE = 2_000_000
_UNLIMITED = 1_000_000  # tokenizers without a limit of their own say 1e30


class _Task(Protocol):
    @property
    def kind(self) -> TaskKind: ...


@dataclass(frozen=True)
class Encoded:
    """A split as token ids. ``len()`` is its number of rows.

    Attributes:
        ids: (tokens,) int32, all rows one after another, special tokens included.
        types: (tokens,) uint8 token types, None for models without them.
        offsets: (rows + 1,) int64; row i is ``ids[offsets[i]:offsets[i + 1]]``.
        labels: (rows,) int64 ids, (rows,) float32 numbers or (rows, classes) float32 of 0 and 1; None without
            labels.
        truncated: How many rows were cut.
        max_length: Word pieces after which rows were cut.
        key: Names the content: two with the same key hold the same arrays.
        masking: How words are masked where the task is masked-lm (batches then carry masked ids and labels),
            else None.
    """

    ids: NDArray[np.int32]
    types: NDArray[np.uint8] | None
    offsets: NDArray[np.int64]
    labels: NDArray[Any] | None
    truncated: int
    max_length: int
    key: str
    masking: Masking | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(rows,) word pieces of each row."""
        return np.diff(self.offsets)

    def subset(self, rows: Sequence[int] | NDArray[np.integer[Any]]) -> Encoded:
        """These rows, in this order, copied into memory: for samples, not for most of a corpus.

        The result stands on its own: its examples are numbered from 0, and outputs cached for the whole do
        not apply to it (its key differs). ``truncated`` counts the whole split.
        """
        chosen = np.asarray(rows, dtype=np.int64)
        if len(chosen) and (chosen.min() < 0 or chosen.max() >= len(self)):
            raise InputError(
                f"subset: expected rows from 0 to {len(self) - 1}, found {chosen.min()} to {chosen.max()}"
            )
        positions, lengths = token_positions(self.offsets, chosen)
        return replace(
            self,
            ids=self.ids[positions],
            types=None if self.types is None else self.types[positions],
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            labels=None if self.labels is None else self.labels[chosen],
            key=key_of("subset", self.key, hashlib.sha256(chosen.tobytes()).hexdigest()),
        )


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
        task: Only its kind is used: masked-lm gets a `Masking`.
        max_length: Longest row in word pieces, special tokens included; the tokenizer's own limit applies
            too. Longer rows are cut as the model's tokenizer cuts them, counted, and the count is noted.
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
    limit = (
        min(max_length, tokenizer.model_max_length) if tokenizer.model_max_length < _UNLIMITED else max_length
    )
    masking = Masking.of(tokenizer) if task.kind == "masked-lm" else None
    cutter = _cutter(backend, limit, tokenizer.truncation_side, pair="text_pair" in split.rows.column_names)
    with_types = "token_type_ids" in tokenizer.model_input_names
    # The cutter's description holds vocabulary, normaliser, template and limit: whatever changes an id
    # changes the key.
    tokens = hashlib.sha256(cutter.to_str().encode()).hexdigest()
    key = key_of(
        "tokenized", _SCHEMA, split.rows._fingerprint, split.label_names, tokens, with_types, task.kind
    )
    folder = (cache or cache_folder()) / "tokenized" / key
    stored = open_arrays(folder)
    if stored is None:
        stored = _build(folder, split, cutter, with_types)
    arrays, facts = stored
    truncated = int(facts["truncated"])
    if truncated:
        progress.note(f"{truncated:,} of {len(split.rows):,} rows cut at {limit} word pieces")
    return Encoded(
        arrays["ids"],
        arrays.get("types"),
        arrays["offsets"],
        arrays.get("labels"),
        truncated,
        limit,
        key,
        masking,
    )


def _cutter(backend: Tokenizer, limit: int, side: str, *, pair: bool) -> Tokenizer:
    """A copy of the tokenizer that cuts at ``limit`` and does not pad."""
    special = backend.num_special_tokens_to_add(pair)
    if limit <= special:
        raise ConfigError(
            f"data.max_length: expected more than the {special} special tokens of a row, found {limit}",
            hint="Set data.max_length to 8 or more.",
        )
    cutter = Tokenizer.from_str(backend.to_str())
    cutter.no_padding()
    cutter.enable_truncation(limit, strategy="longest_first", direction=side)
    return cutter


def _build(
    folder: Path, split: Split, cutter: Tokenizer, with_types: bool
) -> tuple[dict[str, NDArray[Any]], Any]:
    try:
        with store_arrays(folder) as writer, progress.track("tokenizing", len(split.rows), "rows") as shown:
            truncated = 0
            end = np.zeros(1, dtype=np.int64)
            writer.append("offsets", end)
            for texts, labels in _chunks(split):
                encodings = cutter.encode_batch_fast(texts)
                truncated += sum(1 for encoding in encodings if encoding.overflowing)
                _append(writer, encodings, end, with_types)
                if labels is not None:
                    writer.append("labels", labels)
                end = end + sum(len(encoding) for encoding in encodings)
                shown.advance(len(texts))
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


def _chunks(split: Split) -> Iterator[tuple[list[Any], NDArray[Any] | None]]:
    """Texts (or pairs) and labels, some thousand rows at a time, fewer where texts are long."""
    rows = split.rows.with_format("arrow")
    pair, labelled = "text_pair" in split.rows.column_names, "label" in split.rows.column_names
    for batch in rows.iter(batch_size=_ROWS_AT_ONCE):
        labels = _labels(batch["label"]) if labelled else None
        start, characters, texts = 0, 0, []
        for row in range(batch.num_rows):
            text = batch["text"][row].as_py()
            other = batch["text_pair"][row].as_py() if pair else ""
            texts.append((text, other) if pair else text)
            characters += len(text) + len(other)
            if characters >= _CHARACTERS_AT_ONCE:
                yield texts, None if labels is None else labels[start : row + 1]
                start, characters, texts = row + 1, 0, []
        if texts:
            yield texts, None if labels is None else labels[start:]


def _labels(column: Any) -> NDArray[Any]:
    values = column.combine_chunks()
    width = getattr(values.type, "list_size", None)
    if width is None:
        return np.asarray(values.to_numpy(zero_copy_only=False))
    return np.asarray(values.flatten().to_numpy(zero_copy_only=False)).reshape(-1, width)

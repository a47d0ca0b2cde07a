"""How the rows of each kind of task become sequences of word pieces, and what is kept beside the ids.

A layout turns some rows into `Pieces`. Most rows are one sequence; sentence embedding makes one of each text
of a pair, and question answering one of each window of a long context.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import datasets
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from compressbert.config.schema import AnswerSettings
from compressbert.data.masking import NOT_SCORED
from compressbert.errors import ConfigError

_ROWS_AT_ONCE = 1000
_CHARACTERS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Pieces:
    """Some rows as sequences.

    Attributes:
        encodings: The sequences, in order.
        arrays: What else is kept, by the field of `Encoded`: rows are appended.
        rows: How many rows these are.
        cut: How many of the rows were cut.
    """

    encodings: Sequence[Any]
    arrays: dict[str, NDArray[Any]]
    rows: int
    cut: int


class Layout(Protocol):
    """How rows become sequences."""

    @property
    def group(self) -> int:
        """Sequences in an example."""

    def pieces(self, rows: datasets.Dataset) -> Iterator[Pieces]:
        """All rows in order, some at a time."""


def cutter_of(backend: Tokenizer, limit: int, side: str, *, pair: bool) -> Tokenizer:
    """A copy of the tokenizer that cuts at ``limit`` and does not pad.

    Raises:
        ConfigError: ``limit`` leaves no room for text.
    """
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


@dataclass(frozen=True)
class Texts:
    """A sequence for each text or pair of texts."""

    cutter: Tokenizer
    group: int = field(default=1, init=False)

    def pieces(self, rows: datasets.Dataset) -> Iterator[Pieces]:
        for texts, labels in _chunks(rows, pairs=True):
            encodings = self.cutter.encode_batch_fast(texts)
            yield Pieces(encodings, _labelled(labels), len(texts), _cut(encodings))


@dataclass(frozen=True)
class TextsApart:
    """A sequence for each text; the two of a pair follow one another."""

    cutter: Tokenizer
    group: int

    def pieces(self, rows: datasets.Dataset) -> Iterator[Pieces]:
        for texts, labels in _chunks(rows, pairs=self.group == 2):
            flat = [text for pair in texts for text in pair] if self.group == 2 else texts
            encodings = self.cutter.encode_batch_fast(flat)
            yield Pieces(encodings, _labelled(labels), len(texts), _cut(encodings))


@dataclass(frozen=True)
class Words:
    """A sequence for each list of words.

    A word's tag stands at its first piece, so that it counts once however it is split: ``token_labels`` holds
    -100 elsewhere and ``token_places`` the number of the word, or -1.
    """

    cutter: Tokenizer
    group: int = field(default=1, init=False)

    def pieces(self, rows: datasets.Dataset) -> Iterator[Pieces]:
        arrow = rows.with_format("arrow")
        labelled = "label" in rows.column_names
        for batch in arrow.iter(batch_size=_ROWS_AT_ONCE):
            encodings = self.cutter.encode_batch(batch["words"].to_pylist(), is_pretokenized=True)
            tags = batch["label"].to_pylist() if labelled else [None] * len(encodings)
            places = [_first_pieces(encoding.word_ids) for encoding in encodings]
            labels = [_at_places(row, place) for row, place in zip(tags, places, strict=True)]
            arrays: dict[str, NDArray[Any]] = {"token_places": np.concatenate(places)}
            if labelled:
                arrays["token_labels"] = np.concatenate(labels)
            yield Pieces(encodings, arrays, len(encodings), _cut(encodings))


def with_leading_blanks(backend: Tokenizer) -> Tokenizer:
    """A tokenizer that takes each given word as standing after a blank, as a byte-level one must be told."""
    described = json.loads(backend.to_str())
    stages = [described.get("pre_tokenizer") or {}]
    stages += stages[0].get("pretokenizers", [])
    for stage in stages:
        if stage.get("type") == "ByteLevel":
            stage["add_prefix_space"] = True
    return Tokenizer.from_str(json.dumps(described))


def _first_pieces(words: Sequence[int | None]) -> NDArray[np.int32]:
    """(tokens,) number of the word that begins at each token, -1 where none does."""
    numbers = np.array([-1 if word is None else word for word in words], dtype=np.int32)
    begins = np.concatenate([[True], numbers[1:] != numbers[:-1]])
    return np.where(begins, numbers, -1).astype(np.int32)


def _at_places(tags: Sequence[int] | None, places: NDArray[np.int32]) -> NDArray[np.int32]:
    if tags is None:
        return places
    return np.where(places >= 0, np.asarray(tags, np.int32)[places], NOT_SCORED).astype(np.int32)


@dataclass(frozen=True)
class Windows:
    """One or more sequences for each question, each with the question and a window of its context.

    ``token_places`` (tokens, 2) holds the characters of the context that a token stands for, or -1;
    ``labels`` (sequences, 2) the first and last token of the answer, both 0 where the window does not hold
    it; ``source_rows`` the row of each sequence.
    """

    backend: Tokenizer
    limit: int
    settings: AnswerSettings
    group: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        least = self.room(self.settings.max_question)
        if least <= self.stride:
            raise ConfigError(
                f"data.max_length: {self.limit} leaves {least} word pieces of context beside a question of "
                f"{self.settings.max_question}, but windows share {self.stride} (data.answers.stride)",
                hint="Set data.max_length: 384, or a smaller data.answers.stride or max_question.",
            )

    @property
    def stride(self) -> int:
        """Word pieces that neighbouring windows share."""
        return self.settings.stride or self.limit // 3

    def room(self, question: int) -> int:
        """Word pieces of context beside a question of so many."""
        return self.limit - question - self.backend.num_special_tokens_to_add(True)

    def pieces(self, rows: datasets.Dataset) -> Iterator[Pieces]:
        row = 0
        for batch in rows.with_format("arrow").iter(batch_size=_ROWS_AT_ONCE):
            questions = self.backend.encode_batch(batch["text"].to_pylist(), add_special_tokens=False)
            contexts = self.backend.encode_batch(batch["text_pair"].to_pylist(), add_special_tokens=False)
            answers = (
                batch["answers"].to_pylist() if "answers" in batch.column_names else [None] * len(questions)
            )
            cut = sum(len(question) > self.settings.max_question for question in questions)
            windows, places, labels, sources = [], [], [], []
            for question, context, answer in zip(questions, contexts, answers, strict=True):
                for window in self._windows(question, context):
                    windows.append(window)
                    places.append(_characters(window))
                    labels.append(_span_of(answer, places[-1]))
                    sources.append(row)
                row += 1
            arrays: dict[str, NDArray[Any]] = {
                "token_places": np.concatenate(places),
                "labels": np.array(labels, np.int64),
                "source_rows": np.array(sources, np.int64),
            }
            yield Pieces(windows, arrays, len(questions), cut)

    def _windows(self, question: Any, context: Any) -> Iterator[Any]:
        question.truncate(self.settings.max_question)
        context.truncate(self.room(len(question)), stride=self.stride)
        for part in (context, *context.overflowing):
            yield self.backend.post_process(question, part, add_special_tokens=True)


def _characters(window: Any) -> NDArray[np.int32]:
    """(tokens, 2) first and one-past-last character of the context, -1 outside of it."""
    inside = np.array([sequence == 1 for sequence in window.sequence_ids])
    offsets = np.array(window.offsets, dtype=np.int32).reshape(-1, 2)
    return np.where(inside[:, None], offsets, -1).astype(np.int32)


def _span_of(answers: dict[str, Any] | None, places: NDArray[np.int32]) -> tuple[int, int]:
    """First and last token of the first answer; (0, 0) if the window does not hold all of it."""
    if not answers or not answers["text"]:
        return 0, 0
    start = answers["answer_start"][0]
    end = start + len(answers["text"][0])
    inside = np.flatnonzero(places[:, 0] >= 0)
    if len(inside) == 0 or places[inside[0], 0] > start or places[inside[-1], 1] < end:
        return 0, 0
    touched = inside[(places[inside, 1] > start) & (places[inside, 0] < end)]
    return (int(touched[0]), int(touched[-1])) if len(touched) else (0, 0)


def _cut(encodings: Sequence[Any]) -> int:
    return sum(1 for encoding in encodings if encoding.overflowing)


def _labelled(labels: NDArray[Any] | None) -> dict[str, NDArray[Any]]:
    return {} if labels is None else {"labels": labels}


def _chunks(rows: datasets.Dataset, *, pairs: bool) -> Iterator[tuple[list[Any], NDArray[Any] | None]]:
    """Texts (or pairs) and labels, some thousand rows at a time, fewer where texts are long."""
    pair, labelled = pairs and "text_pair" in rows.column_names, "label" in rows.column_names
    for batch in rows.with_format("arrow").iter(batch_size=_ROWS_AT_ONCE):
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

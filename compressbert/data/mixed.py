"""Rows whose words are each cut by one of two vocabularies, drawn anew every time (Zhao et al., arXiv 1909.11687).

Ids of the second vocabulary follow those of the first: piece i of it is V + i, with V pieces in the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compressbert.data.batches import Batch, collate
from compressbert.data.encode import Encoded
from compressbert.data.masking import Masking, continuing_pieces


@dataclass
class Mixer:
    """Cuts words of encoded rows by another vocabulary.

    Attributes:
        own: The tokenizer that the rows were encoded with.
        other: The other one.
        share: Chance of each word to be cut by the other one.
        longest: Most pieces of a row, special tokens included; words are left as they are beyond it.
    """

    own: Any
    other: Any
    share: float
    longest: int
    _continues: Tensor = field(init=False, repr=False)
    _special: frozenset[int] = field(init=False, repr=False)
    _known: dict[tuple[int, ...], tuple[int, ...]] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._continues = continuing_pieces(self.own)
        self._special = frozenset(int(index) for index in self.own.all_special_ids)

    def words(self, ids: Sequence[int]) -> list[tuple[int, int]]:
        """Where each word begins and ends, one past its last piece; special tokens belong to none."""
        found: list[tuple[int, int]] = []
        for place, index in enumerate(ids):
            if index in self._special:
                continue
            if found and found[-1][1] == place and self._continues[index]:
                found[-1] = (found[-1][0], place + 1)
            else:
                found.append((place, place + 1))
        return found

    def cut(self, word: tuple[int, ...]) -> tuple[int, ...]:
        """A word's ids in the other vocabulary, above those of the own one; none if the other cannot read it."""
        if word not in self._known:
            text = text_of(self.own, word)
            pieces = self.other.backend_tokenizer.encode(text, add_special_tokens=False).ids
            unread = self.other.unk_token_id in pieces
            self._known[word] = () if unread else tuple(len(self.own) + piece for piece in pieces)
        return self._known[word]

    def batch(self, encoded: Encoded, examples: NDArray[np.int64]) -> Batch:
        """A padded batch of these examples, mixed by torch's global generator; masked by it too where words are."""
        mixed = self.mix(encoded.subset(examples))
        generator = None
        if encoded.masking is not None:
            mixed = replace(mixed, masking=self.masking(encoded.masking))
            generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        return collate(mixed, np.arange(len(mixed)), pad_id=self.own.pad_token_id, generator=generator)

    def mix(self, encoded: Encoded) -> Encoded:
        """The rows with about ``share`` of their words cut by the other vocabulary.

        A label or place at a word's first piece stays at its first piece, the end of an answer at the last piece of
        its word.
        """
        rows = [
            self._row(encoded.ids[start:end].tolist())
            for start, end in zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)
        ]
        offsets = np.concatenate([[0], np.cumsum([len(row.ids) for row in rows])]).astype(np.int64)
        origin = np.concatenate(
            [row.origin + start for row, start in zip(rows, encoded.offsets, strict=False)]
        )
        first = np.concatenate([row.first for row in rows])

        def kept(array: NDArray[Any] | None, inside: int) -> NDArray[Any] | None:
            """Values at first pieces; ``inside`` is what pieces after the first have where words were cut anew."""
            if array is None:
                return None
            there = first if array.ndim == 1 else first[:, None]
            return np.where(there, array[origin], np.asarray(inside, array.dtype))

        labels = encoded.labels
        if encoded.token_places is not None and encoded.token_places.ndim == 2 and labels is not None:
            labels = np.array([row.span(*span) for row, span in zip(rows, labels.tolist(), strict=True)])
        return replace(
            encoded,
            ids=np.concatenate([row.ids for row in rows]).astype(np.int32),
            types=None if encoded.types is None else encoded.types[origin],
            offsets=offsets,
            labels=labels,
            token_labels=kept(encoded.token_labels, -100),
            token_places=kept(encoded.token_places, -1),
            key=f"{encoded.key} mixed",
        )

    def masking(self, own: Masking) -> Masking:
        """How words of both vocabularies are masked: by the own mask token, random pieces from either."""
        size = len(self.own)
        special = (*own.special_ids, *(size + int(index) for index in sorted(self.other.all_special_ids)))
        continues = own.continues
        if continues is not None:
            continues = torch.cat([continues, continuing_pieces(self.other)])
        return replace(
            own, vocabulary=size + len(self.other), special_ids=special, continues=continues, weights=None
        )

    def _row(self, ids: list[int]) -> _Row:
        words = self.words(ids)
        drawn = (torch.rand(len(words)) < self.share).tolist()
        room = self.longest - len(ids)
        pieces: list[tuple[int, ...]] = [(index,) for index in ids]  # what stands in each old piece's place
        for (start, end), other in zip(words, drawn, strict=True):
            cut = self.cut(tuple(ids[start:end])) if other else ()
            grows = len(cut) - (end - start)
            if cut and grows <= room:
                room -= grows
                pieces[start:end] = [cut, *[()] * (end - start - 1)]
        return _Row.of(pieces)


def text_of(tokenizer: Any, word: Sequence[int]) -> str:
    """The letters of a word that stands as these pieces."""
    pieces = tokenizer.convert_ids_to_tokens(list(word))
    if any(piece.startswith("##") for piece in pieces[1:]):
        return "".join([pieces[0], *(piece.removeprefix("##") for piece in pieces[1:])])
    return str(tokenizer.convert_tokens_to_string(pieces)).strip()


@dataclass(frozen=True)
class _Row:
    """A mixed row: its ids, the old piece each came from, and whether it is the first that came from it."""

    ids: NDArray[np.int64]
    origin: NDArray[np.int64]
    first: NDArray[np.bool_]

    @classmethod
    def of(cls, pieces: Sequence[tuple[int, ...]]) -> _Row:
        ids = np.array([index for part in pieces for index in part], np.int64)
        origin = np.repeat(np.arange(len(pieces)), [len(part) for part in pieces])
        first = np.concatenate([[True], origin[1:] != origin[:-1]])
        return cls(ids, origin, first)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """New places of the first and last piece of an answer; a piece that is gone went into its word's first."""
        began = self.origin[np.searchsorted(self.origin, start, side="right") - 1]
        return int(np.searchsorted(self.origin, began)), int(
            np.searchsorted(self.origin, end, side="right") - 1
        )

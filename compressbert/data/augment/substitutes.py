"""Words in place of others, as a masked language model proposes them (TinyBERT, Jiao et al. 2020, arXiv 1909.10351)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from compressbert.config.augment import SubstituteSettings
from compressbert.data.augment.words import Word, replaced, words_of


class Proposer(Protocol):
    """Knows which words could stand in another's place."""

    def propose(self, places: Sequence[tuple[str, Word]]) -> list[tuple[str, ...]]:
        """Candidates for each word of a text, the best first; none where nothing fits."""


@dataclass(frozen=True)
class Substitutes:
    """Makes new texts by replacing words.

    Attributes:
        settings: How often a word is replaced.
        proposer: Says by what.
    """

    settings: SubstituteSettings
    proposer: Proposer

    def prepare(self, texts: Sequence[str]) -> list[Substitutable]:
        """The texts with candidates for their content words, which are proposed for all of them in one call."""
        split = [words_of(text) for text in texts]
        places = [(i, j) for i, words in enumerate(split) for j, word in enumerate(words) if word.is_content]
        proposed = self.proposer.propose([(texts[i], split[i][j]) for i, j in places])
        candidates: list[dict[int, tuple[str, ...]]] = [{} for _ in texts]
        for (i, j), found in zip(places, proposed, strict=True):
            if found:
                candidates[i][j] = found
        return [
            Substitutable(text, words, its, self.settings.chance)
            for text, words, its in zip(texts, split, candidates, strict=True)
        ]


@dataclass(frozen=True)
class Substitutable:
    """A text, its words, and the candidates for some of them."""

    text: str
    words: list[Word]
    candidates: dict[int, tuple[str, ...]]
    chance: float

    def vary(self, random: np.random.Generator) -> str:
        """The text with each word that has candidates replaced, with ``chance``, by one of them, all alike."""
        by = {
            index: found[int(random.integers(len(found)))]
            for index, found in self.candidates.items()
            if random.random() < self.chance
        }
        return replaced(self.text, self.words, by)

"""Masking, words of the same class, and n-grams: the rules of BiLSTM-soft (Tang et al. 2019, arXiv 1903.12136).

Joining two texts is ours.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from compressbert.config.augment import RuleSettings
from compressbert.data.augment.words import Word, WordClass, replaced, word_class, words_of

# What is kept to draw from, so that memory does not grow with the corpus.
_MOST_WORDS = 100_000
_MOST_TEXTS = 10_000


@dataclass(frozen=True)
class Lexicon:
    """The words of the training texts by their class, to draw from as often as they occur, and some of the texts."""

    words: dict[WordClass, tuple[str, ...]]
    ends: dict[WordClass, np.ndarray]  # running sums of how often each word of a class occurs
    texts: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Lexicon:
        """Count the words of all texts; of very many, only the most frequent 100,000 and 10,000 texts are kept."""
        counts: Counter[str] = Counter()
        sample: list[str] = []
        random = np.random.default_rng(0)
        for number, text in enumerate(texts):
            counts.update(word.text for word in words_of(text))
            if number < _MOST_TEXTS:
                sample.append(text)
            elif (
                place := int(random.integers(number + 1))
            ) < _MOST_TEXTS:  # each text is kept with one chance
                sample[place] = text
            if len(counts) > 4 * _MOST_WORDS:
                counts = Counter(dict(counts.most_common(_MOST_WORDS)))
        by_class: dict[WordClass, list[tuple[str, int]]] = defaultdict(list)
        for word, count in sorted(counts.most_common(_MOST_WORDS)):
            by_class[word_class(word)].append((word, count))
        return cls(
            {kind: tuple(word for word, _ in pairs) for kind, pairs in by_class.items()},
            {kind: np.cumsum([count for _, count in pairs]) for kind, pairs in by_class.items()},
            tuple(sample),
        )

    def draw(self, kind: WordClass, random: np.random.Generator) -> str:
        """A word of a class that occurs in the texts, with the chance of its frequency."""
        ends = self.ends[kind]
        return self.words[kind][int(np.searchsorted(ends, random.integers(int(ends[-1])), side="right"))]


@dataclass(frozen=True)
class Rules:
    """Makes new texts by rules.

    Attributes:
        settings: The chances of each rule.
        mask: What stands for a masked word.
        lexicon: What words of the same class are drawn from.
    """

    settings: RuleSettings
    mask: str
    lexicon: Lexicon

    def prepare(self, texts: Sequence[str]) -> list[RuledText]:
        """The texts with their words."""
        return [RuledText(text, words_of(text), self) for text in texts]


@dataclass(frozen=True)
class RuledText:
    """A text, its words, and the rules."""

    text: str
    words: list[Word]
    rules: Rules

    def vary(self, random: np.random.Generator) -> str | None:
        """A new text, or None where every word was replaced or nothing is left.

        For each word r is drawn from 0 to 1: below ``mask_chance`` the mask takes its place, below ``mask_chance +
        class_chance`` a word of its class. Then, with ``ngram_chance``, only a run of 1 to ``longest_ngram`` words
        is kept, and with ``join_chance`` another text follows.
        """
        words, settings = self.words, self.rules.settings
        if not words:
            return None
        by: dict[int, str] = {}
        for index, (word, drawn) in enumerate(zip(words, random.random(len(words)), strict=True)):
            if drawn < settings.mask_chance:
                by[index] = self.rules.mask
            elif drawn < settings.mask_chance + settings.class_chance:
                by[index] = self.rules.lexicon.draw(word_class(word.text), random)
        if len(by) == len(words):
            return None
        if random.random() < settings.ngram_chance:
            text = _ngram(self.text, words, by, settings.longest_ngram, random)
        else:
            text = replaced(self.text, words, by)
        if random.random() < settings.join_chance:
            others = self.rules.lexicon.texts
            text = f"{text} {others[int(random.integers(len(others)))]}"
        return text


def _ngram(
    text: str, words: list[Word], by: dict[int, str], longest: int, random: np.random.Generator
) -> str:
    """A run of words out of the changed text."""
    size = min(int(random.integers(1, longest + 1)), len(words))
    first = int(random.integers(len(words) - size + 1))
    inside = words[first : first + size]
    start, end = inside[0].start, inside[-1].end
    moved = [Word(word.start - start, word.end - start, word.text) for word in inside]
    kept = {index - first: new for index, new in by.items() if first <= index < first + size}
    return replaced(text[start:end], moved, kept)

"""Words in a text: where they stand, which of them carry little meaning, and a coarse part of speech.

Replacing a word leaves every other character of the text as it is. The word lists and endings are English; in other
languages most words fall into one class.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

WordClass = Literal[
    "determiner", "pronoun", "preposition", "conjunction", "auxiliary", "adverb", "number", "mark", "verb",
    "adjective", "noun",
]  # fmt: skip

_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
_NUMBER = re.compile(r"\d[\d.,:]*")

_CLOSED: dict[WordClass, str] = {
    "determiner": "a an the this that these those each every either neither some any no all both half another such",
    "pronoun": "i you he she it we they me him her us them my your his its our their mine yours hers ours theirs "
    "myself yourself himself herself itself ourselves themselves who whom whose which what there one it's that's "
    "i'm you're he's she's we're they're i've you've we've they've i'll you'll he'll she'll we'll they'll",
    "preposition": "of in to for on with at by from into about against between through during before after above "
    "below under over off up down out near without within along across behind beyond around among toward towards "
    "upon onto per than as like",
    "conjunction": "and or but nor so yet if because while although though unless until whether since when where",
    "auxiliary": "be am is are was were been being have has had having do does did doing will would shall should can "
    "could may might must isn't aren't wasn't weren't hasn't haven't hadn't doesn't don't didn't won't wouldn't "
    "shan't shouldn't can't cannot couldn't mightn't mustn't",
    "adverb": "not n't very too also just only never ever always often again once here now then more most less least "
    "much even still already almost quite rather how why",
}
_CLASS_OF: dict[str, WordClass] = {word: kind for kind, words in _CLOSED.items() for word in words.split()}
_ENDINGS: tuple[tuple[WordClass, tuple[str, ...]], ...] = (
    ("adverb", ("ly",)),
    (
        "noun",
        ("tion", "sion", "ment", "ness", "ity", "ism", "ist", "ship", "hood", "ance", "ence", "ery", "dom"),
    ),
    (
        "adjective",
        ("ous", "ful", "less", "able", "ible", "ive", "ical", "ic", "al", "ish", "ary", "ant", "ent"),
    ),
    ("verb", ("ing", "ed", "ize", "ise", "ify", "ate")),
)
_SHORTEST_STEM = 3


@dataclass(frozen=True)
class Word:
    """A word or a mark of punctuation: ``text[start:end]``."""

    start: int
    end: int
    text: str

    @property
    def is_content(self) -> bool:
        """Whether it is made of letters and no function word."""
        return self.text.isalpha() and self.text.lower() not in _CLASS_OF


def words_of(text: str) -> list[Word]:
    """The words and punctuation marks of a text, in order."""
    return [Word(found.start(), found.end(), found.group()) for found in _WORD.finditer(text)]


def replaced(text: str, words: list[Word], by: Mapping[int, str]) -> str:
    """The text with some of its words replaced, by their index."""
    parts, end = [], 0
    for index in sorted(by):
        parts += [text[end : words[index].start], by[index]]
        end = words[index].end
    return "".join([*parts, text[end:]])


def word_class(word: str) -> WordClass:
    """A coarse part of speech: function words by list, others by their ending; what no rule knows is a noun."""
    lower = word.lower()
    if (known := _CLASS_OF.get(lower)) is not None:
        return known
    if _NUMBER.fullmatch(lower):
        return "number"
    if not any(character.isalnum() for character in lower):
        return "mark"
    for kind, endings in _ENDINGS:
        if any(lower.endswith(ending) and len(lower) - len(ending) >= _SHORTEST_STEM for ending in endings):
            return kind
    return "noun"

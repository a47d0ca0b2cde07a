"""Words, their places and their classes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressbert.data.augment.words import replaced, word_class, words_of


def test_words_and_marks_stand_where_they_stand() -> None:
    text = "Don't go,  café!"
    assert [(word.start, word.end, word.text) for word in words_of(text)] == [
        (0, 5, "Don't"), (6, 8, "go"), (8, 9, ","), (11, 15, "café"), (15, 16, "!"),
    ]  # fmt: skip


def test_replacing_leaves_every_other_character() -> None:
    text = " A  good\tfilm . "
    words = words_of(text)
    assert replaced(text, words, {1: "bad", 3: "!"}) == " A  bad\tfilm ! "
    assert replaced(text, words, {}) == text


@given(st.text(max_size=60))
def test_words_put_back_give_the_text(text: str) -> None:
    words = words_of(text)
    assert replaced(text, words, {index: word.text for index, word in enumerate(words)}) == text


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("The", "determiner"), ("she", "pronoun"), ("with", "preposition"), ("and", "conjunction"),
        ("isn't", "auxiliary"), ("very", "adverb"), ("slowly", "adverb"), ("42.5", "number"), ("1,000", "number"),
        ("!", "mark"), ("running", "verb"), ("played", "verb"), ("famous", "adjective"), ("movement", "noun"),
        ("film", "noun"), ("red", "noun"), ("ring", "noun"), ("Film", "noun"),
    ],
)  # fmt: skip
def test_classes(word: str, kind: str) -> None:
    assert word_class(word) == kind


def test_function_words_numbers_and_marks_are_no_content() -> None:
    words = words_of("the film cost 5 , isn't it good")
    assert [word.text for word in words if word.is_content] == ["film", "cost", "good"]

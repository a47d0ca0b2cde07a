"""BiLSTM-soft's rules: chances by hand, classes, n-grams."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compressbert.config.augment import RuleSettings
from compressbert.data.augment import rules as rules_module
from compressbert.data.augment.rules import Lexicon, Rules
from compressbert.data.augment.words import word_class, words_of

TEXTS = ["the film was good , and the cast sang slowly", "a famous movement", "her songs are bad ."]


def vary(
    text: str, times: int = 200, *, texts: list[str] = TEXTS, seed: int = 0, **chances: Any
) -> list[str | None]:
    none = {"mask_chance": 0, "class_chance": 0, "ngram_chance": 0}
    rules = Rules(RuleSettings(**{**none, **chances}), "[MASK]", Lexicon.of(texts))
    (prepared,) = rules.prepare([text])
    random = np.random.default_rng(seed)
    return [prepared.vary(random) for _ in range(times)]


def test_without_chances_there_is_only_the_original() -> None:
    assert set(vary(TEXTS[0])) == {TEXTS[0]}


def test_words_are_masked_with_their_chance() -> None:
    text = " ".join(["good"] * 1000)
    (made,) = vary(text, 1, mask_chance=0.1)
    assert made is not None
    assert 70 <= made.split().count("[MASK]") <= 130  # 100 expected, standard deviation 9.5
    assert made.replace("[MASK]", "good") == text


def test_words_are_replaced_by_words_of_their_class() -> None:
    seen = set()
    for made in vary(TEXTS[0], class_chance=0.3):
        assert made is not None
        for old, new in zip(words_of(TEXTS[0]), words_of(made), strict=True):
            assert word_class(old.text) == word_class(new.text)
            seen.add(new.text)
    assert {"movement", "songs", "her", "famous"} - {"her", "famous"} <= seen
    assert "famous" not in seen  # the only adjective, and the text has none


def test_words_of_a_class_are_drawn_as_often_as_they_occur() -> None:
    lexicon = Lexicon.of(["film film film song"])
    random = np.random.default_rng(0)
    drawn = [lexicon.draw("noun", random) for _ in range(4000)]
    assert drawn.count("film") / 4000 == pytest.approx(0.75, abs=0.03)
    assert set(drawn) == {"film", "song"}


def test_both_chances_share_one_draw() -> None:
    """r below 0.4 masks, from 0.4 to 1 replaces: nothing of the text stays, so nothing is made."""
    assert set(vary(TEXTS[0], mask_chance=0.4, class_chance=0.6)) == {None}
    assert set(vary("one word left", mask_chance=1)) == {None}


def test_ngrams_are_runs_of_one_to_five_words() -> None:
    made = [text for text in vary(TEXTS[0], 400, ngram_chance=1) if text is not None]
    assert all(text in TEXTS[0] for text in made)
    assert {len(words_of(text)) for text in made} == {1, 2, 3, 4, 5}
    assert {text for text in vary("a b", 50, ngram_chance=1, longest_ngram=9) if text} == {"a", "b", "a b"}
    starts = {TEXTS[0].index(text) for text in made if len(words_of(text)) == 5}
    assert starts == {word.start for word in words_of(TEXTS[0])[:-4]}


def test_ngrams_hold_what_was_replaced_in_them() -> None:
    made = vary("a b c d e f", 500, mask_chance=0.5, ngram_chance=1)
    assert any(text is not None and "[MASK]" in text and text != "[MASK]" for text in made)
    for text in made:
        if text is not None:
            kept = [word for word in text.split() if word != "[MASK]"]
            assert kept == sorted(kept)


def test_a_text_without_words_gives_nothing() -> None:
    assert vary("   ", 3, mask_chance=0.5) == [None] * 3


def test_the_seed_decides() -> None:
    one, same, other = (vary(TEXTS[0], mask_chance=0.3, class_chance=0.3, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_chances_that_exceed_one_are_refused() -> None:
    with pytest.raises(ValueError, match="together at most 1"):
        RuleSettings(mask_chance=0.6, class_chance=0.5)


def test_another_text_is_put_behind_with_its_chance() -> None:
    made = vary(TEXTS[1], 1000, join_chance=0.25)
    joined = [text for text in made if text != TEXTS[1]]
    assert 200 <= len(joined) <= 300  # 250 expected, standard deviation 14
    assert set(joined) == {f"{TEXTS[1]} {other}" for other in TEXTS}


def test_of_many_texts_every_part_of_the_corpus_stays_in_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_module, "_MOST_TEXTS", 100)
    kept = [int(text) for text in Lexicon.of(str(number) for number in range(1000)).texts]
    assert len(set(kept)) == 100
    assert all(sum(start <= number < start + 100 for number in kept) >= 2 for start in range(0, 1000, 100))

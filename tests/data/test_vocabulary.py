"""A trained vocabulary: a real BERT tokenizer, the same every time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from compressbert.data.toy import toy_reviews
from compressbert.data.vocabulary import SPECIAL_TOKENS, train_wordpiece
from compressbert.errors import InputError

TEXTS = [text for text, _ in toy_reviews(1500)]


def test_special_tokens_template_and_casing() -> None:
    tokenizer = train_wordpiece(TEXTS, size=700)
    assert tokenizer.convert_ids_to_tokens(range(5)) == list(SPECIAL_TOKENS)
    assert len(tokenizer) <= 700
    found = tokenizer("The FILM", "was good")
    assert tokenizer.convert_ids_to_tokens(found["input_ids"]) == [
        "[CLS]",
        "the",
        "film",
        "[SEP]",
        "was",
        "good",
        "[SEP]",
    ]
    assert found["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1]
    assert tokenizer.unk_token_id not in tokenizer(" ".join(TEXTS[:50]))["input_ids"]
    assert tokenizer.model_max_length == 512


def test_saves_and_loads_with_auto_tokenizer(tmp_path: Path) -> None:
    tokenizer = train_wordpiece(TEXTS, size=300, max_length=64)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again(TEXTS[:20], TEXTS[20:40]) == tokenizer(TEXTS[:20], TEXTS[20:40])
    assert again.mask_token_id == tokenizer.mask_token_id == 4
    assert again.model_max_length == 64


def test_cased() -> None:
    tokenizer = train_wordpiece(["Film film FILM"] * 3, lowercase=False)
    assert tokenizer("Film")["input_ids"] != tokenizer("film")["input_ids"]


def test_the_same_in_two_processes() -> None:
    """Hash maps, Python's and the library's, are seeded anew in each process; that must not show."""
    code = (
        "from compressbert.data.toy import toy_reviews\n"
        "from compressbert.data.vocabulary import train_wordpiece\n"
        "texts = [text for text, _ in toy_reviews(1500)]\n"
        "print(sorted(train_wordpiece(texts, size=200).get_vocab().items()))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == str(sorted(train_wordpiece(TEXTS, size=200).get_vocab().items()))


def test_no_words_is_an_input_error() -> None:
    with pytest.raises(InputError, match="texts with words"):
        train_wordpiece(["", "  "])

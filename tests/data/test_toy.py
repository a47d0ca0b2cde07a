"""The demonstration corpus: reproducible, balanced, and not to be solved by counting words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from compressbert.config.schema import DataConfig
from compressbert.data.read import read_split
from compressbert.data.toy import BAD, GOOD, toy_reviews, write_toy_corpus
from compressbert.errors import ConfigError


def rows_of(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_same_seed_same_bytes_and_no_overlap(tmp_path: Path) -> None:
    first = write_toy_corpus(tmp_path / "a", train_rows=600, validation_rows=200, seed=1)
    again = write_toy_corpus(tmp_path / "b", train_rows=600, validation_rows=200, seed=1)
    other = write_toy_corpus(tmp_path / "c", train_rows=600, validation_rows=200, seed=2)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert first[0].read_bytes() != other[0].read_bytes()
    train, validation = rows_of(first[0]), rows_of(first[1])
    assert (len(train), len(validation)) == (600, 200)
    texts = [row["sentence"] for row in train + validation]
    assert len(set(texts)) == 800
    assert not list((tmp_path / "a").glob("*.partial"))


def test_it_reads_like_any_data(tmp_path: Path) -> None:
    train, validation = write_toy_corpus(tmp_path, train_rows=100, validation_rows=20)
    split = read_split(DataConfig(train=str(train), validation=str(validation)), "train")
    assert split.label_names == ("negative", "positive")
    assert sum(split.rows["label"]) == pytest.approx(50, abs=15)


def test_labels_are_balanced_and_words_few() -> None:
    reviews = toy_reviews(4000)
    assert sum(label for _, label in reviews) == 2000
    assert 200 < len({word for text, _ in reviews for word in text.split()}) < 350


def test_counting_words_is_little_better_than_guessing() -> None:
    right = total = 0
    for text, label in toy_reviews(4000):
        words = text.split()
        score = sum(word in GOOD for word in words) - sum(word in BAD for word in words)
        if score:
            total += 1
            right += (score > 0) == bool(label)
    assert total > 2500
    assert right / total < 0.75


def test_the_grammar_keeps_its_promise_on_known_shapes() -> None:
    """Plain verdicts and single denials can be read off; their labels must agree with the words."""
    good, bad = set(GOOD), set(BAD)
    seen = 0
    for text, label in toy_reviews(6000, seed=5):
        words = text.split()
        polar = [word for word in words if word in good | bad]
        plain = (
            len(words) <= 6 and words[0] in ("the", "this") and words[2] in ("was", "is", "seemed", "felt")
        )
        if plain and len(polar) == 1:
            denied = words[3] in ("not", "never", "hardly", "far", "anything")
            assert ((polar[0] in good) != denied) == bool(label), text
            seen += 1
    assert seen > 200


def test_too_few_rows_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 2 rows"):
        write_toy_corpus(tmp_path, train_rows=1)


def test_as_a_script(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "compressbert.data.toy",
        str(tmp_path / "x"),
        "--train-rows",
        "10",
        "--validation-rows",
        "4",
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert [len(rows_of(Path(line))) for line in done.stdout.split()] == [10, 4]

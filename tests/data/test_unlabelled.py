"""Texts without labels: how much each file gives, which rows, and how plain text becomes words."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressbert.config.schema import DataConfig
from compressbert.data.unlabelled import draw, read_unlabelled, shares
from compressbert.errors import InputError
from compressbert.pipeline.keys import data_fingerprint


def mixture(
    folder: Path, *files: Path, task: str = "token-classification", seed: int = 0, **settings: object
):
    config = DataConfig.model_validate(
        {"task": task, "unlabelled": {"files": [str(file) for file in files], **settings}}
    )
    return read_unlabelled(config, (), seed=seed)


def text_file(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_shares_by_hand() -> None:
    assert shares([900, 100], 1.0, 1000) == [900, 100]
    assert shares([900, 100], 0.0, 1000) == [500, 500]
    assert shares([900, 100], 0.5, 1000) == [750, 250]  # 30 to 10
    assert shares([900, 100], 0.7, 1000) == [823, 177]  # 9^0.7 = 4.6555; 4.6555 / 5.6555 = 0.82318
    assert shares([1, 1, 1], 0.7, 10) == [4, 3, 3]


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=8), st.floats(0, 1), st.integers(1, 10_000))
def test_shares_add_up_and_larger_files_give_no_less(counts: list[int], exponent: float, rows: int) -> None:
    found = shares(counts, exponent, rows)
    assert sum(found) == rows
    ordered = [share for _, share in sorted(zip(counts, found, strict=True))]
    assert all(later >= earlier - 1 for earlier, later in pairwise(ordered))


@given(st.integers(1, 50), st.integers(0, 200), st.integers(0, 5))
def test_rows_repeat_as_evenly_as_they_can(count: int, wanted: int, seed: int) -> None:
    rows = draw(count, wanted, [seed])
    assert len(rows) == wanted
    seen = np.bincount(rows, minlength=count)
    assert len(seen) == count
    assert seen.max() - seen.min() <= 1
    assert (np.diff(rows) >= 0).all()


def test_the_mixture_is_the_same_each_time_and_another_with_another_seed(tmp_path: Path) -> None:
    large = text_file(tmp_path / "large.txt", [f"large {number}" for number in range(90)])
    small = text_file(tmp_path / "small.txt", [f"small {number}" for number in range(10)])
    first, again, other = (mixture(tmp_path, large, small, seed=seed) for seed in (3, 3, 4))
    assert first.rows["words"] == again.rows["words"]
    assert first.rows._fingerprint == again.rows._fingerprint != other.rows._fingerprint
    assert first.rows["words"] != other.rows["words"]
    kinds = Counter(words[0] for words in first.rows["words"])
    assert kinds == {"large": 82, "small": 18}
    assert len(first.files) == 2


def test_plain_text_is_cut_at_blanks_and_outer_punctuation(tmp_path: Path) -> None:
    file = text_file(tmp_path / "a.txt", ['"I don\'t," said J.-P. Müller (42).', "", "  ... 3.5% 東京 "])
    found = mixture(tmp_path, file)
    assert found.rows["words"] == [
        ['"', "I", "don't", ",", '"', "said", "J.-P", ".", "Müller", "(", "42", ")", "."],
        [".", ".", ".", "3.5", "%", "東京"],
    ]


def test_lists_of_words_and_texts_in_tables_are_taken_too(tmp_path: Path) -> None:
    lists = text_file(tmp_path / "a.jsonl", ['{"tokens": ["J.", "Doe"], "ner_tags": ["x", "y"]}'])
    table = text_file(tmp_path / "b.csv", ["text,id", "Hello there.,3"])
    assert mixture(tmp_path, lists, exponent=1).rows["words"] == [["J.", "Doe"]]
    assert mixture(tmp_path, table).rows["words"] == [["Hello", "there", "."]]
    assert mixture(tmp_path, table, task="sequence-classification").rows["text"] == ["Hello there."]


def test_pairs_and_texts_do_not_mix(tmp_path: Path) -> None:
    pairs = text_file(tmp_path / "a.csv", ["sentence1,sentence2", "a,b"])
    texts = text_file(tmp_path / "b.csv", ["sentence", "a"])
    with pytest.raises(InputError, match="the same columns"):
        mixture(tmp_path, pairs, texts, task="sequence-classification")


def test_the_key_of_a_step_knows_the_content_of_the_files(tmp_path: Path) -> None:
    file = text_file(tmp_path / "a.txt", ["one"])
    config = DataConfig.model_validate({"unlabelled": {"files": [str(file)]}})
    before = data_fingerprint(config)
    moved = text_file(tmp_path / "b.txt", ["one"])
    assert data_fingerprint(DataConfig.model_validate({"unlabelled": {"files": [str(moved)]}})) == before
    text_file(file, ["two"])
    assert data_fingerprint(config) != before
    file.unlink()
    with pytest.raises(InputError, match=r"data\.unlabelled: no file at"):
        data_fingerprint(config)

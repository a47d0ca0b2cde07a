"""Words and tags: read with clear refusals, and tags placed at first pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compressbert.config.schema import DataConfig
from compressbert.data.batches import ordered_batches
from compressbert.data.encode import encode
from compressbert.data.read import Split, label_names_of, read_split
from compressbert.errors import CompressbertError, ConfigError, InputError
from compressbert.tasks.base import task_for
from tests.tiny import TAGS, tagged_rows, tiny_tokenizer, write_rows


def config_of(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> DataConfig:
    file = write_rows(folder / "rows.jsonl", rows)
    return DataConfig(task="token-classification", train=str(file), **settings)


def read(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> Split:
    return read_split(config_of(folder, rows, **settings), "train")


def test_words_text_and_ids_of_string_tags(tmp_path: Path) -> None:
    rows = [{"tokens": ["good", "film"], "ner_tags": ["B-X", "O"]}, {"tokens": ["song"], "ner_tags": ["I-X"]}]
    split = read(tmp_path, rows)
    assert split.label_names == ("B-X", "I-X", "O")
    assert list(split.rows) == [
        {"words": ["good", "film"], "text": "good film", "label": [0, 2]},
        {"words": ["song"], "text": "song", "label": [1]},
    ]


def test_integer_tags_take_the_configured_names(tmp_path: Path) -> None:
    rows = [{"words": ["good", "film"], "tags": [1, 0]}]
    split = read(tmp_path, rows, labels=("O", "B-X"))
    assert split.label_names == ("O", "B-X")
    assert split.rows[0]["label"] == [1, 0]
    assert label_names_of(config_of(tmp_path, rows)) == ("0", "1")


GOOD = {"tokens": ["good", "film"], "ner_tags": ["B-X", "O"]}


@pytest.mark.parametrize(
    ("rows", "kind", "message"),
    [
        (
            [GOOD, {"tokens": ["a"], "ner_tags": ["O", "O"]}],
            InputError,
            r"rows.jsonl:2: expected one tag for each word, found 1 words and 2 tags",
        ),
        ([GOOD, {"tokens": [], "ner_tags": []}], InputError, r"rows.jsonl:2: expected words .* found none"),
        (
            [GOOD, {"tokens": ["a", None], "ner_tags": ["O", "O"]}],
            InputError,
            r"rows.jsonl:2: a word .* is null",
        ),
        ([GOOD, {"tokens": ["a"], "ner_tags": [None]}], InputError, r"rows.jsonl:2: expected a label"),
        ([GOOD, {"tokens": ["a"], "ner_tags": None}], InputError, r"rows.jsonl:2: expected a label"),
        (
            [{"tokens": "a b", "ner_tags": ["O", "O"]}],
            InputError,
            r"expected lists of words in column 'tokens'",
        ),
        ([{"tokens": ["a"], "ner_tags": "O"}], InputError, r"expected lists of labels in column 'ner_tags'"),
        (
            [{"text": ["a"], "ner_tags": ["O"]}],
            ConfigError,
            r"looked for tokens, words, .*the columns are text, ner",
        ),
        (
            [{"tokens": ["a"], "tags": ["O"], "pos_tags": ["N"]}],
            ConfigError,
            r"holds the tags: .*found both",
        ),
    ],
)
def test_unusable_rows_are_named(
    rows: list[dict[str, Any]], kind: type[CompressbertError], message: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=message):
        read(tmp_path, rows)


def test_a_tag_that_the_model_does_not_know_is_named_with_its_line(tmp_path: Path) -> None:
    config = config_of(tmp_path, [GOOD, {"tokens": ["a"], "ner_tags": ["B-Y"]}])
    with pytest.raises(InputError, match=r"rows.jsonl:2: expected one of the labels 'O', 'B-X', found 'B-Y'"):
        read_split(config, "train", label_names=("O", "B-X"))


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_tags_stand_at_first_pieces_and_cut_rows_are_counted(family: str, tmp_path: Path) -> None:
    rows = [{"tokens": ["films", "was", "brightly", "good"], "ner_tags": ["A", "B", "A", "B"]}] * 2
    rows.append({"tokens": ["good"] * 9, "ner_tags": ["A"] * 9})
    split = read(tmp_path, rows)
    task = task_for(DataConfig(task="token-classification"), split.label_names)
    encoded = encode(split, tiny_tokenizer(family), task=task, max_length=8)
    assert encoded.truncated == 1
    first = slice(0, encoded.offsets[1])
    assert encoded.token_places is not None
    assert encoded.token_labels is not None
    # [CLS] film ##s was bright ##ly good [SEP]
    assert encoded.token_places[first].tolist() == [-1, 0, -1, 1, 2, -1, 3, -1]
    assert encoded.token_labels[first].tolist() == [-100, 0, -100, 1, 0, -100, 1, -100]
    (batch,) = ordered_batches(encoded, batch_size=3, pad_id=0)
    assert batch.labels is not None
    assert (batch.labels != -100).sum(dim=1).tolist() == [4, 4, 6]
    part = encoded.subset([2, 0])
    assert part.token_labels is not None
    assert part.token_labels.tolist() == [-100, *[0] * 6, -100, -100, 0, -100, 1, 0, -100, 1, -100]
    assert part.source_rows is not None
    assert part.source_rows.tolist() == [2, 0]


def test_the_tags_of_the_model_fix_the_ids(tmp_path: Path) -> None:
    split = read_split(config_of(tmp_path, tagged_rows(20)), "train", label_names=TAGS)
    flat = np.concatenate([row["label"] for row in split.rows])
    assert split.label_names == TAGS
    assert set(flat) == {0, 1, 2, 3, 4}

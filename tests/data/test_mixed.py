"""Rows cut by two vocabularies: which words, where labels and answers go, and what is masked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compressbert.data.alignment import matching_words, same_examples
from compressbert.data.batches import Batch
from compressbert.data.encode import Encoded, encode_again
from compressbert.data.mixed import Mixer
from compressbert.data.own_vocabulary import lowercases, same_pieces, small_tokenizer, texts_of
from compressbert.errors import InputError
from tests.methods.toy import toy_data, toy_model
from tests.tiny import tiny_tokenizer

KINDS = [
    "sequence-classification",
    "token-classification",
    "question-answering",
    "masked-lm",
    "sentence-embedding",
]


def rows(folder: Path, task: str = "sequence-classification", family: str = "bert") -> Encoded:
    return toy_data(folder, toy_model(folder, family), task=task)[1]


def mixer(
    encoded: Encoded, share: float = 0.5, size: int = 40, family: str = "bert", longest: int = 200
) -> Mixer:
    own = tiny_tokenizer(family)
    return Mixer(own, small_tokenizer(own, encoded.origin.split, size=size), share, longest)


def text(mixed: Mixer, ids: Any) -> str:
    """The letters that a row stands for, whichever vocabulary cut them; special tokens left out."""
    size, found = len(mixed.own), ""
    for index in ids:
        tokenizer, own = (mixed.own, int(index)) if index < size else (mixed.other, int(index) - size)
        piece = tokenizer.convert_ids_to_tokens(own)
        if piece not in tokenizer.all_special_tokens:
            found += piece.removeprefix("##")
    return found


@pytest.mark.parametrize("task", KINDS)
def test_no_word_is_cut_anew_with_chance_0_and_every_one_with_chance_1(task: str, tmp_path: Path) -> None:
    encoded = rows(tmp_path, task)
    same = mixer(encoded, 0.0).mix(encoded)
    for name in ("ids", "types", "offsets", "labels", "token_labels", "token_places"):
        before, after = getattr(encoded, name), getattr(same, name)
        assert (before is None and after is None) or np.array_equal(before, after), name
    mixed = mixer(encoded, 1.0)
    words = [mixed.mix(encoded.subset([row])).ids for row in range(5)]
    special = set(mixed.own.all_special_ids)
    cut = [index for ids in words for index in ids if int(index) not in special]
    assert np.min(cut) >= len(mixed.own)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_the_letters_stay_whatever_cuts_them(family: str, tmp_path: Path) -> None:
    encoded = rows(tmp_path, family=family)
    mixed = mixer(encoded, 0.5, family=family)
    found = mixed.mix(encoded)
    assert not np.array_equal(found.ids, encoded.ids)
    for row in range(len(encoded)):
        before, after = (
            text(mixed, part.ids[part.offsets[row] : part.offsets[row + 1]]) for part in (encoded, found)
        )
        assert before == after


def test_rows_do_not_outgrow_their_limit(tmp_path: Path) -> None:
    encoded = rows(tmp_path)
    longest = int(encoded.lengths.max())
    found = mixer(encoded, 1.0, size=20, longest=longest).mix(encoded)
    assert found.lengths.max() <= longest
    assert found.lengths.sum() > encoded.lengths.sum()


def test_a_tag_stays_at_the_first_piece_of_its_word(tmp_path: Path) -> None:
    encoded = rows(tmp_path, "token-classification")
    found = mixer(encoded, 1.0).mix(encoded)
    for before, after in (
        (encoded.token_labels, found.token_labels),
        (encoded.token_places, found.token_places),
    ):
        assert after[after != (-100 if before is encoded.token_labels else -1)].tolist() == [
            value for value in before.tolist() if value != (-100 if before is encoded.token_labels else -1)
        ]
    begins = found.token_labels != -100
    assert np.array_equal(begins, found.token_places >= 0)
    for index in found.ids[begins]:
        assert not mixer(encoded).other.convert_ids_to_tokens(int(index) - 35).startswith("##")


def test_an_answer_is_still_the_same_word(tmp_path: Path) -> None:
    encoded = rows(tmp_path, "question-answering")
    mixed = mixer(encoded, 1.0)
    found = mixed.mix(encoded)
    answers = 0
    for row, (before, after) in enumerate(zip(encoded.labels, found.labels, strict=True)):
        start = (encoded.offsets[row], found.offsets[row])
        if not before.any():
            assert not after.any()
            continue
        answers += 1
        inside = [
            part.ids[begin + span[0] : begin + span[1] + 1]
            for part, begin, span in ((encoded, start[0], before), (found, start[1], after))
        ]
        assert text(mixed, inside[0]) == text(mixed, inside[1])
    assert answers > 30


def test_masked_words_are_asked_for_in_the_vocabulary_that_cut_them(tmp_path: Path) -> None:
    encoded = rows(tmp_path, "masked-lm")
    mixed = mixer(encoded, 0.5)
    torch.manual_seed(0)
    batch = mixed.batch(encoded, np.arange(len(encoded)))
    asked = batch.labels != -100
    ids, labels = batch.inputs["input_ids"][asked], batch.labels[asked]
    assert {bool(label >= 35) for label in labels} == {True, False}
    assert labels.max() < 35 + len(mixed.other)
    assert (ids == mixed.own.mask_token_id).float().mean() > 0.6  # one mask token serves both
    special = set(mixed.own.all_special_ids) | {35 + index for index in mixed.other.all_special_ids}
    assert not special & set(labels.tolist())


def test_draws_come_from_the_global_generator_alone(tmp_path: Path) -> None:
    encoded = rows(tmp_path, "masked-lm")
    mixed = mixer(encoded)

    def ids(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return mixed.batch(encoded, np.arange(8)).inputs["input_ids"]

    first = ids(1)
    assert torch.equal(ids(1), first)
    other = ids(2)
    assert other.shape != first.shape or not torch.equal(other, first)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_the_small_tokenizer_reads_its_corpus_and_surrounds_texts_alike(family: str, tmp_path: Path) -> None:
    encoded = rows(tmp_path, family=family)
    own = tiny_tokenizer(family)
    small = small_tokenizer(own, encoded.origin.split, size=60)
    assert len(small) <= 60
    assert not lowercases(small) or lowercases(own)
    for one in texts_of(encoded.origin.split):
        assert small.unk_token_id not in small(one)["input_ids"]
    assert small.convert_tokens_to_ids(small.pad_token) == own.convert_tokens_to_ids(own.pad_token)
    for texts in (["film"], ["film", "song"]):
        layouts = [
            [
                (token if sequence is None else "text", kind)
                for token, kind, sequence in zip(
                    found.tokens, found.type_ids, found.sequence_ids, strict=True
                )
            ]
            for found in (tokenizer.backend_tokenizer.encode(*texts) for tokenizer in (own, small))
        ]
        assert [place for place in layouts[1] if place[0] != "text"] == [
            p for p in layouts[0] if p[0] != "text"
        ]
    small.save_pretrained(tmp_path / "small")
    assert same_pieces(small, type(small).from_pretrained(tmp_path / "small"))
    assert not same_pieces(small, own)
    assert list(small.model_input_names) == list(own.model_input_names)


def test_the_same_examples_and_words_are_found_again(tmp_path: Path) -> None:
    own = rows(tmp_path, "question-answering")
    other = encode_again(own, small_tokenizer(tiny_tokenizer(), own.origin.split, size=20))
    assert len(other) > len(own)
    batch = Batch({}, None, torch.arange(len(other)))
    found = same_examples(batch, other, own)
    assert np.array_equal(own.source_rows[found], other.source_rows)
    ours = torch.tensor([[-1, 0, -1, 1, -1], [-1, 0, 1, 2, -1]])
    theirs = torch.tensor([[-1, 0, 1, 2], [-1, 0, 1, 2]])
    assert matching_words(ours, theirs).tolist() == [0, 1, 3, 4, 5]
    with pytest.raises(InputError, match="before words that the student reads"):
        matching_words(theirs, ours[:, :4])


def test_a_sample_cannot_be_cut_anew(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sample of rows"):
        encode_again(rows(tmp_path).subset([0, 1]), tiny_tokenizer())

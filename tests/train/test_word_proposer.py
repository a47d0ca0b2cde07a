"""Words in place of others, as a masked language model and its word vectors propose them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compressbert.data.augment.words import words_of
from compressbert.errors import ConfigError
from compressbert.train.word_proposer import WordProposer
from tests.methods.toy import toy_model


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra"])
def test_single_pieces_are_proposed_by_the_model(family: str, tmp_path: Path) -> None:
    """What the model says at the mask, the text itself behind it, most likely first and never the word itself."""
    model = toy_model(tmp_path, family, head="masked-lm")
    text = "the film was good"
    word = words_of(text)[1]
    ((found),) = WordProposer(model, 4).propose([(text, word)])
    tokenizer = model.tokenizer
    batch = tokenizer([f"the {tokenizer.mask_token} was good"], [text], return_tensors="pt")
    at = (batch["input_ids"][0] == tokenizer.mask_token_id).nonzero()[0, 0]
    with torch.no_grad():
        scores = model.network(**batch).logits[0, at]
    ranked = tokenizer.convert_ids_to_tokens(scores.argsort(descending=True).tolist())
    expected = [piece for piece in ranked if piece.isalpha() and piece != "film"][:4]
    assert list(found) == expected


def test_a_batch_gives_what_single_words_give(tmp_path: Path) -> None:
    proposer = WordProposer(toy_model(tmp_path, head="masked-lm"), 3)
    places = [(text, word) for text in ("the film was good", "bad song") for word in words_of(text)]
    assert proposer.propose(places) == [proposer.propose([place])[0] for place in places]


def test_words_of_several_pieces_get_their_nearest_neighbours(tmp_path: Path) -> None:
    model = toy_model(tmp_path, head="masked-lm")
    vocabulary, table = model.tokenizer.get_vocab(), model.network.get_input_embeddings().weight
    with torch.no_grad():
        table.zero_()
        table[:, 0] = 1.0  # all alike, but for these
        for name, row in (
            ("film", [3.0, 4.0]),
            ("##s", [3.0, -4.0]),
            ("song", [5.0, 0.1]),
            ("book", [5.0, 3.0]),
        ):
            table[vocabulary[name], :2] = torch.tensor(row)
        for name in vocabulary.keys() - {"film", "##s", "song", "book"}:
            table[vocabulary[name], :2] = torch.tensor([-1.0, 0.0])
    text = "good films"
    ((found),) = WordProposer(model, 2).propose([(text, words_of(text)[1])])
    assert found == ("song", "book")  # the mean of film and ##s is (3, 0)


def test_a_capital_stays_one(tmp_path: Path) -> None:
    proposer = WordProposer(toy_model(tmp_path, head="masked-lm"), 3)
    text = "Good film"
    (found,) = proposer.propose([(text, words_of(text)[0])])
    assert len(found) == 3
    assert all(word[0].isupper() for word in found)
    assert "Good" not in found


def test_a_word_that_is_cut_away_has_no_candidates(tmp_path: Path) -> None:
    proposer = WordProposer(toy_model(tmp_path, head="masked-lm"), 3)
    text = " ".join(["good"] * 90)
    words = words_of(text)
    first, last = proposer.propose([(text, words[0]), (text, words[-1])])
    assert first
    assert last == ()


def test_another_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="masked language model, found BertForSequenceClassification"
    ) as raised:
        WordProposer(toy_model(tmp_path), 3)
    assert "kind: rules" in raised.value.hint

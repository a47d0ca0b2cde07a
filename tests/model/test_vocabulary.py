"""Another vocabulary for a model: where its rows come from, and that stock transformers opens the result."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from compressbert.data.own_vocabulary import small_tokenizer
from compressbert.errors import ConfigError
from compressbert.model.checkpoint import load, save
from compressbert.model.edits import keep_layers
from compressbert.model.vocabulary import add_vocabulary, change_vocabulary, mean_rows, pieces_in
from tests.methods.toy import logits, toy_data, toy_model
from tests.tiny import FAMILIES, padded_batch, tiny_tokenizer


def small(folder: Path, family: str = "bert", size: int = 50):
    model = toy_model(folder, family, head="masked-lm")
    encoded = toy_data(folder, model)[1]
    return model, small_tokenizer(tiny_tokenizer(family), encoded.origin.split, size=size)


def test_rows_are_means_by_hand() -> None:
    table = torch.tensor([[0.0, 2.0], [2.0, 4.0], [9.0, 9.0]])
    assert mean_rows(table, [[1], [0, 1], [2, 2, 1, 1]]).tolist() == [[2, 4], [1, 3], [5.5, 6.5]]
    assert mean_rows(table[:, 0], [[0, 1]]).tolist() == [1]


def test_what_a_piece_is_in_the_own_pieces(tmp_path: Path) -> None:
    _, other = small(tmp_path, size=400)
    own = tiny_tokenizer()
    found = pieces_in(own, other)
    assert len(found) == len(other)
    known = own.get_vocab()
    assert found[other.convert_tokens_to_ids("[MASK]")] == [known["[MASK]"]]
    assert found[other.convert_tokens_to_ids("film")] == [known["film"]]
    unreadable = other.convert_tokens_to_ids("f")
    assert found[unreadable] == [known["[UNK]"]]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_changed_model_is_a_stock_one(family: str, tmp_path: Path) -> None:
    model, other = small(tmp_path, family)
    keep_layers(model, [0])
    state = torch.random.get_rng_state()
    change_vocabulary(model, other, pieces_in(model.tokenizer, other))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.network.config.vocab_size == len(other) == 50
    output = logits(model, padded_batch(family))
    assert output.shape[-1] == 50
    save(model, tmp_path / "saved")
    assert torch.equal(logits(load(tmp_path / "saved"), padded_batch(family)), output)
    stock = AutoModelForMaskedLM.from_pretrained(tmp_path / "saved").eval()
    with torch.no_grad():
        assert torch.equal(stock(**padded_batch(family)).logits, output)
    assert len(AutoTokenizer.from_pretrained(tmp_path / "saved")) == 50


def test_a_vocabulary_of_the_same_pieces_changes_no_output(tmp_path: Path) -> None:
    model = toy_model(tmp_path, head="masked-lm")
    before = logits(model, padded_batch())
    change_vocabulary(model, tiny_tokenizer(), pieces_in(model.tokenizer, tiny_tokenizer()))
    assert torch.equal(logits(model, padded_batch()), before)


def test_padding_must_keep_its_id(tmp_path: Path) -> None:
    model = toy_model(tmp_path, head="masked-lm")
    other = tiny_tokenizer("roberta")
    with pytest.raises(ConfigError, match="padding token has id 1, the model's own 0"):
        change_vocabulary(model, other, [[0]] * len(other))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("width", [None, 8])
def test_a_second_vocabulary_leaves_the_first_as_it_was(
    family: str, width: int | None, tmp_path: Path
) -> None:
    model, other = small(tmp_path, family)
    before = logits(model, padded_batch(family))
    joint = add_vocabulary(model, other, width=width)
    found = logits(model, padded_batch(family))
    assert torch.allclose(found[..., : before.shape[-1]], before, atol=1e-6)
    assert found.shape[-1] == before.shape[-1] + 50
    second = padded_batch(family)
    second["input_ids"] = torch.where(
        second["attention_mask"] == 1, before.shape[-1] + 7, second["input_ids"]
    )
    with torch.no_grad():
        joint.other.weight[7] += 1
    assert not torch.equal(logits(model, second), found)
    assert joint.other.weight.requires_grad

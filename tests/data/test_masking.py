"""Masking: who is chosen, what becomes of them, and that special tokens are left alone."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from compressbert.data.masking import (
    Masking,
    continuing_pieces,
    mask_tokens,
    noise_for_batch,
    noise_for_rows,
    smoothed_weights,
)
from compressbert.errors import ConfigError, InputError
from tests.tiny import tiny_tokenizer

MASKING = Masking(mask_id=4, vocabulary=1000, special_ids=(0, 1, 2, 3, 4))


def big_batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 1000, (200, 500), generator=generator)
    ids[:, 0], ids[:, 100] = 2, 3
    mask = torch.ones_like(ids)
    mask[:, 400:] = 0
    return ids, mask, noise_for_batch((200, 500), generator)


def test_shares_are_the_papers() -> None:
    ids, mask, noise = big_batch()
    masked, labels = mask_tokens(ids, mask, MASKING, noise)
    chosen = labels != -100
    words = 200 * (400 - 2)
    assert chosen.sum() / words == pytest.approx(0.15, abs=0.005)
    assert (masked[chosen] == 4).float().mean() == pytest.approx(0.8, abs=0.02)
    assert (masked[chosen] == ids[chosen]).float().mean() == pytest.approx(0.1, abs=0.02)
    random = chosen & (masked != 4) & (masked != ids)
    assert random.sum() / chosen.sum() == pytest.approx(0.1, abs=0.02)
    assert masked[random].float().mean() == pytest.approx(
        (5 + 999) / 2, rel=0.05
    )  # from the whole vocabulary
    assert masked[random].min() >= 5


def test_special_tokens_and_padding_are_never_touched() -> None:
    ids, mask, noise = big_batch()
    everything = dataclasses.replace(MASKING, probability=1.0)
    masked, labels = mask_tokens(ids, mask, everything, noise)
    for column in (0, 100):
        assert torch.equal(masked[:, column], ids[:, column])
        assert (labels[:, column] == -100).all()
    assert torch.equal(masked[:, 400:], ids[:, 400:])
    assert (labels[:, 400:] == -100).all()
    assert (labels != -100).sum() == 200 * 398


def test_labels_hold_what_stood_there_and_nothing_else_changes() -> None:
    ids, mask, noise = big_batch()
    masked, labels = mask_tokens(ids, mask, MASKING, noise)
    chosen = labels != -100
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(masked[~chosen], ids[~chosen])


def test_weights_draw_an_exact_share_and_prefer_the_heavy() -> None:
    ids, mask, noise = big_batch()
    weights = torch.ones(1000)
    weights[500:] = 4.0
    weights[999] = 0.0
    _, labels = mask_tokens(ids, mask, dataclasses.replace(MASKING, weights=weights), noise)
    chosen = labels[labels != -100]
    assert len(chosen) == -(-200 * 398 * 15 // 100)
    assert (chosen != 999).all()
    heavy = ((ids >= 500) & (ids < 999) & mask.bool()).sum()
    light = ((ids >= 5) & (ids < 500) & mask.bool()).sum()
    ratio = ((chosen >= 500).sum() / heavy) / ((chosen < 500).sum() / light)
    assert 3.2 < ratio < 4.0  # below 4, since the heavy run short as they are drawn


def test_equal_weights_are_uniform() -> None:
    ids, mask, noise = big_batch()
    _, labels = mask_tokens(ids, mask, dataclasses.replace(MASKING, weights=torch.ones(1000)), noise)
    per_half = [(labels[:, part] != -100).float().mean().item() for part in (slice(1, 100), slice(300, 400))]
    assert per_half[0] == pytest.approx(per_half[1], abs=0.01)


def test_smoothing() -> None:
    weights = smoothed_weights(torch.tensor([100, 0, 1, 10]), special_ids=[0])
    torch.testing.assert_close(weights, torch.tensor([0.0, 1.0, 1.0, 10**-0.7]))
    assert smoothed_weights(torch.tensor([5, 7]), [], exponent=0).tolist() == [1.0, 1.0]


def test_noise_of_rows_depends_on_the_row_alone() -> None:
    alone, among = noise_for_rows([7], 5), noise_for_rows([3, 7], 9)
    assert torch.equal(alone[0], among[1, :5])
    assert not torch.equal(among[0], among[1])
    assert not torch.equal(noise_for_rows([7], 5, seed=1), alone)


def test_from_a_tokenizer() -> None:
    tokenizer = tiny_tokenizer("roberta")
    masking = Masking.of(tokenizer)
    assert masking.mask_id == tokenizer.mask_token_id
    assert set(masking.special_ids) == set(tokenizer.all_special_ids)
    assert masking.vocabulary == len(tokenizer)
    tokenizer.mask_token = None
    with pytest.raises(InputError, match="no mask token"):
        Masking.of(tokenizer)


@pytest.mark.parametrize(
    "settings", [{"probability": 0.0}, {"probability": 1.5}, {"masked": 0.8, "random": 0.3}]
)
def test_impossible_shares_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="masking"):
        dataclasses.replace(MASKING, **settings)


WORDS = [4, 10, 11, 12, 20, 21, 30, 5, 0]  # [CLS] 10 ##11 ##12 20 ##21 30 [SEP] [PAD]


def masking_of(unit: str, **settings: object) -> Masking:
    continues = torch.zeros(40, dtype=torch.bool)
    continues[[11, 12, 21]] = True
    return Masking(3, 40, (0, 3, 4, 5), unit=unit, continues=continues, **settings)  # type: ignore[arg-type]


def drawn(masking: Masking, rows: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.tensor([WORDS] * rows)
    noise = noise_for_batch((rows, len(WORDS)), torch.Generator().manual_seed(0))
    return mask_tokens(ids, (ids != 0).long(), masking, noise)


def test_whole_words_are_predicted_together() -> None:
    _, labels = drawn(masking_of("word"))
    chosen = labels != -100
    assert not chosen[:, [0, 7, 8]].any()
    for word in ([1, 2, 3], [4, 5], [6]):
        assert (chosen[:, word].all(1) == chosen[:, word].any(1)).all()
    assert (labels[chosen] == torch.tensor([WORDS] * 400)[chosen]).all()
    assert abs(chosen[:, 1:7].float().mean().item() - 0.15) < 0.03
    assert not torch.equal(chosen[:, 1], chosen[:, 4])


def test_spans_are_runs_of_whole_words_with_one_fate() -> None:
    masked, labels = drawn(masking_of("span", probability=0.5, span_chance=0.01, span_longest=2))
    chosen = labels != -100
    for word in ([1, 2, 3], [4, 5], [6]):
        assert (chosen[:, word].all(1) == chosen[:, word].any(1)).all()
    # Three of six pieces: the first word alone; or another one, and then one more.
    patterns = {tuple(row) for row in chosen[:, [1, 4, 6]].int().tolist()}
    assert patterns == {(1, 0, 0), (1, 1, 0), (0, 1, 1), (1, 0, 1)}
    both = chosen[:, 4] & chosen[:, 6] & ~chosen[:, 1]
    as_mask = masked == 3
    assert (as_mask[both, 4] == as_mask[both, 5]).all()


def test_spans_reach_the_share_that_is_wanted() -> None:
    _, labels = drawn(masking_of("span"))
    chosen = (labels != -100).sum(dim=1)
    assert (chosen >= 1).all()  # ceil(0.15 * 6) pieces at least
    assert (chosen <= 3).all()  # no more than the word that reached it


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_pieces_that_go_on_with_a_word(family: str) -> None:
    tokenizer = tiny_tokenizer(family)
    continues = continuing_pieces(tokenizer)
    inside = torch.nonzero(continues).squeeze(1).tolist()
    assert tokenizer.convert_ids_to_tokens(inside) == ["##s", "##ly"]


def test_weights_of_pieces_do_not_go_with_whole_words() -> None:
    with pytest.raises(ConfigError, match=r"data\.masking\.unit is word"):
        masking_of("word", weights=torch.ones(40))

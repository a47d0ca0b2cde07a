"""Masking: who is chosen, what becomes of them, and that special tokens are left alone."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from compressbert.data.masking import Masking, mask_tokens, noise_for_batch, noise_for_rows, smoothed_weights
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

"""Training with gradients of touched rows equals training with dense ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from compressbert.config.schema import TrainConfig
from compressbert.train.optim import build_optimizer, clip_gradients
from compressbert.train.touched_rows import FEWEST_ROWS, TouchedRows

IDS = torch.tensor([[3, 5, 5, 0], [3, 900, 7, 0]])


class Network(nn.Module):
    """A table read by position and by word, and a product; optionally tied as in a masked-LM head."""

    def __init__(self, *, tied: bool = False) -> None:
        super().__init__()
        self.words = nn.Embedding(FEWEST_ROWS, 4, padding_idx=0)
        self.few = nn.Embedding(8, 4)
        self.out = nn.Linear(4, FEWEST_ROWS)
        if tied:
            self.out.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        hidden: Tensor = self.out(self.words(ids) + self.few(ids % 8))
        return hidden.square().sum()


@pytest.fixture
def networks() -> Iterator[tuple[Network, Network]]:
    torch.manual_seed(0)
    ours, dense = Network(), Network()
    dense.load_state_dict(ours.state_dict())
    return ours, dense


@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize("limit", [0.0, 0.01, 1e6])
def test_steps_equal_those_with_dense_gradients(
    networks: tuple[Network, Network], accumulated: int, limit: float
) -> None:
    ours, dense = networks
    settings = TrainConfig(learning_rate=0.1, weight_decay=0.1)
    touched = TouchedRows(ours, enabled=True)
    our_optimizer, their_optimizer = build_optimizer(ours, settings), build_optimizer(dense, settings)
    for step in range(4):
        ids = (IDS + step * 100) % FEWEST_ROWS
        with touched.sparse():
            for _ in range(accumulated):
                ours(ids).backward()
        assert ours.words.weight.grad is not None
        assert ours.words.weight.grad.is_sparse
        for _ in range(accumulated):
            dense(ids).backward()
        norm = clip_gradients(touched.gradients(ours.parameters()), limit)
        expected = clip_gradients([p.grad for p in dense.parameters() if p.grad is not None], limit)
        torch.testing.assert_close(norm, expected)
        touched.spread()
        for mine, theirs in zip(ours.parameters(), dense.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad)
        our_optimizer.step()
        their_optimizer.step()
        touched.clear()
        our_optimizer.zero_grad()
        their_optimizer.zero_grad()
    for mine, theirs in zip(ours.parameters(), dense.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_the_buffer_is_zero_again_after_a_step(networks: tuple[Network, Network]) -> None:
    network, _ = networks
    touched = TouchedRows(network, enabled=True)
    with touched.sparse():
        network(IDS).backward()
    touched.gradients(network.parameters())
    touched.spread()
    buffer = network.words.weight.grad
    assert buffer is not None
    assert set(buffer.abs().sum(dim=1).nonzero().flatten().tolist()) == {3, 5, 7, 900}  # 0 is padding
    touched.clear()
    assert not buffer.any()


def test_small_tied_frozen_and_unwanted_tables_stay_dense() -> None:
    tied, frozen, plain = Network(tied=True), Network(), Network()
    frozen.words.weight.requires_grad_(False)
    for network, enabled in ((tied, True), (frozen, True), (plain, False)):
        touched = TouchedRows(network, enabled=enabled)
        with touched.sparse():
            assert not network.words.sparse
            assert not network.few.sparse
            network(IDS).backward()
        assert all(not gradient.is_sparse for gradient in touched.gradients(network.parameters()))


def test_a_table_gives_dense_gradients_again_after_the_block() -> None:
    network = Network()
    block = TouchedRows(network, enabled=True).sparse()
    with block:
        assert network.words.sparse
    assert not network.words.sparse

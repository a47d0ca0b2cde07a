"""Tables of word-piece vectors, by hand."""

from __future__ import annotations

import pytest
import torch

from compressbert.nn.word_table import frequency_weights, principal_axes, ranked_counts


def test_axes_are_the_directions_of_most_variance() -> None:
    """Points on a long diagonal and a short one across it."""
    rows = torch.tensor([[3.0, 3.0], [-3.0, -3.0], [1.0, -1.0], [-1.0, 1.0]]) + 7
    axes = principal_axes(rows, 2)
    root = 2**-0.5
    torch.testing.assert_close(axes[:, 0], torch.tensor([root, root]))
    torch.testing.assert_close(axes[:, 1].abs(), torch.tensor([root, root]))
    torch.testing.assert_close(axes.T @ axes, torch.eye(2))


def test_fewer_axes_keep_more_variance_than_any_other_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(200, 6, generator=generator) @ torch.randn(6, 6, generator=generator)
    kept = ((rows - rows.mean(0)) @ principal_axes(rows, 2)).square().sum()
    for _ in range(20):
        other, _ = torch.linalg.qr(torch.randn(6, 2, generator=generator))
        assert ((rows - rows.mean(0)) @ other).square().sum() <= kept


def test_frequent_pieces_weigh_less() -> None:
    weights = frequency_weights(torch.tensor([90, 10, 0]), a=0.1)
    torch.testing.assert_close(weights, torch.tensor([0.1 / (0.1 + 0.9), 0.1 / (0.1 + 0.1), 1.0]))


def test_ranked_counts_fall_as_one_over_rank() -> None:
    counts = ranked_counts(3)
    assert counts.tolist() == pytest.approx([1 / 2, 1 / 3, 1 / 4])

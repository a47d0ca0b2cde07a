"""One table for two vocabularies."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from compressbert.nn.two_vocabularies import JointEmbedding, JointOutput


@pytest.mark.parametrize("width", [4, 2])
def test_ids_are_looked_up_in_their_own_table(width: int) -> None:
    torch.manual_seed(0)
    own, other = nn.Embedding(3, 4), torch.randn(5, width)
    joint = JointEmbedding(own, other)
    ids = torch.tensor([[0, 2, 3, 7]])
    found = joint(ids)[0]
    assert torch.equal(found[:2], own.weight[[0, 2]])
    expected = other[[0, 4]] if width == 4 else torch.cat([other[[0, 4]], torch.zeros(2, 2)], dim=1)
    assert torch.equal(found[2:], expected)  # a narrow table starts at the leading features
    assert torch.equal(joint.rows()[[0, 4]], found[2:])
    found.sum().backward()
    assert own.weight.grad.abs().sum(1).tolist() == [4, 0, 4]
    assert (joint.other.weight.grad.abs().sum(1) > 0).tolist() == [True, False, False, False, True]


def test_words_of_both_are_predicted_by_the_tables_themselves() -> None:
    torch.manual_seed(0)
    own, output = nn.Embedding(3, 4), nn.Linear(4, 3)
    joint = JointEmbedding(own, torch.randn(5, 2))
    head = JointOutput(output, joint)
    states = torch.randn(2, 6, 4)
    found = head(states)
    assert found.shape == (2, 6, 8)
    assert torch.equal(found[..., :3], output(states))
    assert torch.allclose(found[..., 3:], states[..., :2] @ joint.other.weight.T)
    assert len(list(head.parameters())) == 3  # the tables belong to the embedding

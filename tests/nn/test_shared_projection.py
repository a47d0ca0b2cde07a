"""Distances between projected weights, by hand."""

from __future__ import annotations

import pytest
import torch

from compressbert.nn.shared_projection import Direction, Pair, SharedProjections

BOTH = pytest.mark.parametrize("direction", ["up", "down"])


def with_matrix(pairs: list[Pair], direction: Direction, **matrices: list[list[float]]) -> SharedProjections:
    found = SharedProjections(pairs, direction)
    with torch.no_grad():
        for kind, values in matrices.items():
            found.matrices[kind].copy_(torch.tensor(values))
    return found


@BOTH
def test_with_equal_widths_and_identities_it_is_the_squared_distance(direction: Direction) -> None:
    torch.manual_seed(0)
    student, teacher, bias, other = torch.randn(3, 2), torch.randn(3, 2), torch.randn(3), torch.randn(3)
    pairs = [Pair(student, teacher, ("heads", "hidden")), Pair(bias, other, ("heads",))]
    expected = (student - teacher).square().sum() + (bias - other).square().sum()
    assert torch.allclose(SharedProjections(pairs, direction)(pairs), expected)


def test_up_by_hand() -> None:
    # student (1, 1): [[2]]; U = [1, 3]; Uᵀ θ U = [[2, 6], [6, 18]]; teacher zeros but 18
    pairs = [Pair(torch.tensor([[2.0]]), torch.tensor([[0.0, 0.0], [0.0, 18.0]]), ("hidden", "hidden"))]
    found = with_matrix(pairs, "up", hidden=[[1.0, 3.0]])
    assert float(found(pairs).detach()) == 4 + 36 + 36


def test_down_by_hand() -> None:
    # teacher [[1, 2], [3, 4]]; V = [1, 1]ᵀ; Vᵀ θ V = 10; student 7
    pairs = [Pair(torch.tensor([[7.0]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]), ("hidden", "hidden"))]
    found = with_matrix(pairs, "down", hidden=[[1.0], [1.0]])
    assert float(found(pairs).detach()) == 9


@BOTH
def test_an_axis_that_both_have_alike_is_left_alone_and_a_kind_has_one_matrix(direction: Direction) -> None:
    words = Pair(torch.ones(5, 2), torch.zeros(5, 3), (None, "hidden"))
    norm = Pair(torch.ones(2), torch.zeros(3), ("hidden",))
    found = SharedProjections([words, norm], direction)
    assert [tuple(matrix.shape) for matrix in found.parameters()] == [(2, 3) if direction == "up" else (3, 2)]
    assert float(found([words, norm]).detach()) == 5 * 2 + 2


def test_both_sides_and_the_matrices_have_gradients() -> None:
    student, teacher = torch.randn(2, 2, requires_grad=True), torch.randn(3, 3, requires_grad=True)
    pairs = [Pair(student, teacher, ("heads", "hidden"))]
    found = SharedProjections(pairs, "up")
    found(pairs).backward()
    assert all(tensor.grad.abs().sum() > 0 for tensor in (student, teacher, *found.parameters()))


@BOTH
def test_training_in_bfloat16_does_not_round_it(direction: Direction) -> None:
    torch.manual_seed(0)
    weight = torch.randn(8, 8)
    pairs = [Pair(weight + 1e-3, weight, ("heads", "hidden"))]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = SharedProjections(pairs, direction)(pairs)
    assert float(found.detach()) == pytest.approx(64e-6, rel=1e-2)

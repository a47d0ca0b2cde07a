"""Losses between the insides of student and teacher, against hand arithmetic and their invariances."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from compressbert.nn.transfer import (
    attention_kl,
    hidden_mse,
    patient_loss,
    relations,
    score_mse,
    split_heads,
)

MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])


def random(*shape: int, seed: int = 0, grad: bool = False) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_(grad)


def test_patient_loss_by_hand() -> None:
    student = torch.tensor([[[3.0, 0.0], [0.0, 2.0]]])
    teacher = torch.tensor([[[0.0, 5.0], [0.0, 7.0]]])
    assert patient_loss(student, teacher).item() == pytest.approx(
        2.0
    )  # right angle: 1 + 1; same direction: 0
    assert patient_loss(student.repeat(3, 1, 1), teacher.repeat(3, 1, 1)).item() == pytest.approx(2.0)


def test_patient_loss_sees_directions_only() -> None:
    teacher = random(4, 3, 8)
    assert patient_loss(teacher * 7.5, teacher).item() == pytest.approx(0, abs=1e-6)
    student = random(4, 3, 8, seed=1, grad=True)
    patient_loss(student, teacher).backward()
    assert student.grad is not None
    assert (student.grad * student).sum(-1).detach().abs().max() < 1e-6  # orthogonal to the vector


def test_hidden_mse_is_a_mean_over_real_tokens() -> None:
    student, teacher = torch.zeros(2, 4, 2), torch.zeros(2, 4, 2)
    student[0, 1, 0] = 2.0
    student[1, 2] = 100.0  # padding
    assert hidden_mse(student, teacher, MASK).item() == pytest.approx(4.0 / (5 * 2))


def test_score_mse_is_a_mean_over_real_pairs() -> None:
    student, teacher = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    student[0, 0, 0, 2] = 3.0
    student[0, 0, 0, 3] = 50.0  # a key of padding
    student[1, 2, 3, 0] = 50.0  # a query of padding
    assert score_mse(student, teacher, MASK).item() == pytest.approx(9.0 / (3 * (9 + 4)))


def test_attention_kl_by_hand() -> None:
    student, teacher = torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 3, 3)
    teacher[0, 0, 0, 0] = math.log(3.0)  # attends 3/4, 1/4 where the student attends 1/2, 1/2
    mask = torch.tensor([[1, 1, 0]])
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert attention_kl(student, teacher, mask).item() == pytest.approx(expected / 2)  # two real queries


@pytest.mark.parametrize("loss", [score_mse, attention_kl])
def test_what_padding_holds_and_how_much_of_it_there_is_does_not_matter(loss) -> None:
    student, teacher = random(2, 3, 4, 4), random(2, 3, 4, 4, seed=1)
    expected = loss(student, teacher, MASK)
    assert expected > 0
    hidden = ~(MASK[:, None, :, None] * MASK[:, None, None, :]).bool()
    torch.testing.assert_close(
        loss(student.masked_fill(hidden, 1e4), teacher.masked_fill(hidden, -3.0), MASK), expected
    )
    wider = [torch.nn.functional.pad(part, (0, 2, 0, 2), value=9.0) for part in (student, teacher)]
    torch.testing.assert_close(loss(*wider, torch.nn.functional.pad(MASK, (0, 2))), expected)


@pytest.mark.parametrize("loss", [score_mse, attention_kl])
def test_equal_scores_cost_nothing_and_only_the_student_learns(loss) -> None:
    teacher = random(2, 3, 4, 4, grad=True)
    student = teacher.detach().clone().requires_grad_(True)
    value = loss(student, teacher, MASK)
    assert value.item() == pytest.approx(0, abs=1e-7)
    loss(student + random(2, 3, 4, 4, seed=2), teacher, MASK).backward()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def test_attention_does_not_change_with_a_constant_added_to_a_query() -> None:
    student, teacher = random(2, 3, 4, 4), random(2, 3, 4, 4, seed=1)
    torch.testing.assert_close(
        attention_kl(student + random(2, 3, 4, 1, seed=2), teacher, MASK),
        attention_kl(student, teacher, MASK),
    )


def test_relations_do_not_change_when_all_vectors_of_a_head_are_rotated() -> None:
    vectors = random(2, 3, 4, 8)
    rotation, _ = torch.linalg.qr(random(8, 8, seed=1))
    torch.testing.assert_close(relations(vectors @ rotation), relations(vectors), atol=1e-5, rtol=1e-5)
    assert relations(torch.ones(1, 1, 2, 4))[0, 0, 0, 1].item() == pytest.approx(4 / 2)


def test_heads_are_cut_along_the_features_and_never_mix_positions() -> None:
    rows = random(2, 5, 12)
    heads = split_heads(rows, 3)
    assert heads.shape == (2, 3, 5, 4)
    assert torch.equal(heads[1, 2, 4], rows[1, 4, 8:12])

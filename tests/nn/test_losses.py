"""Distillation losses against hand arithmetic and their gradient identities."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from compressbert.nn.losses import (
    hidden_cosine,
    logit_mse,
    soft_binary_loss,
    soft_label_loss,
    soft_target_loss,
)


def _logits(rows: int = 5, classes: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(2, rows, classes, generator=generator, dtype=torch.float64) * 2
    return draw[0].float().requires_grad_(True), draw[1].float()


def test_soft_labels_of_one_row_by_hand() -> None:
    # T = 2: teacher softmax(ln 9 / 2, 0) = (3/4, 1/4), student (1/2, 1/2).
    teacher, student = torch.tensor([[math.log(9), 0.0]]), torch.zeros(1, 2)
    expected = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert soft_label_loss(student, teacher, 2.0).item() == pytest.approx(expected, rel=1e-5)


def test_soft_labels_average_over_rows_not_over_classes() -> None:
    student, teacher = _logits()
    rows = [soft_label_loss(student[i : i + 1], teacher[i : i + 1], 3.0) for i in range(len(teacher))]
    assert soft_label_loss(student, teacher, 3.0).item() == pytest.approx(sum(rows).item() / 5, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 7.5])
def test_gradient_of_soft_labels_is_temperature_times_difference_of_probabilities(temperature: float) -> None:
    student, teacher = _logits()
    soft_label_loss(student, teacher, temperature).backward()
    difference = functional.softmax(student / temperature, -1) - functional.softmax(teacher / temperature, -1)
    torch.testing.assert_close(student.grad, temperature * difference.detach() / 5)


def test_soft_labels_are_zero_exactly_when_logits_differ_by_a_constant() -> None:
    student, teacher = _logits()
    assert soft_label_loss(teacher + torch.arange(5.0)[:, None], teacher, 2.0).item() == pytest.approx(
        0, abs=1e-6
    )
    assert soft_label_loss(student, teacher, 2.0).item() > 0.01


def test_hot_soft_labels_tend_to_half_the_squared_distance_of_centred_logits() -> None:
    student, teacher = _logits(rows=3)
    centred = (student - student.mean(-1, keepdim=True)) - (teacher - teacher.mean(-1, keepdim=True))
    limit = 0.5 * centred.square().sum(-1).mean() / 4  # softmax is 1/C at infinite temperature
    hot = soft_label_loss(student.double(), teacher.double(), 100.0)
    assert hot.item() == pytest.approx(limit.item(), rel=0.05)


def test_no_gradient_reaches_the_teacher() -> None:
    student, teacher = _logits()
    teacher.requires_grad_(True)
    for loss in (soft_label_loss(student, teacher, 2.0), soft_binary_loss(student, teacher, 2.0),
                 logit_mse(student, teacher), hidden_cosine(student, teacher)):  # fmt: skip
        loss.backward()
    assert teacher.grad is None


def test_binary_soft_targets_of_one_label_by_hand() -> None:
    teacher, student = torch.tensor([[2 * math.log(3)]]), torch.zeros(1, 1)  # 3/4 against 1/2 at T = 2
    expected = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert soft_binary_loss(student, teacher, 2.0).item() == pytest.approx(expected, rel=1e-5)


def test_binary_soft_targets_equal_two_class_soft_labels() -> None:
    student, teacher = _logits(classes=1)
    pair = [torch.cat([z, torch.zeros_like(z)], dim=1) for z in (student, teacher)]
    assert soft_binary_loss(student, teacher, 3.0).item() == pytest.approx(
        soft_label_loss(*pair, 3.0).item(), rel=1e-4
    )
    assert soft_binary_loss(teacher, teacher, 3.0).item() == pytest.approx(0, abs=1e-6)


def test_logit_mse_sums_classes_and_averages_rows() -> None:
    student = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    teacher = torch.tensor([[0.0, 0.0], [3.0, 1.0]])
    assert logit_mse(student, teacher).item() == pytest.approx((1 + 4 + 9 + 1) / 2)


def test_cosine_by_hand() -> None:
    student = torch.tensor([[1.0, 0.0], [2.0, 2.0], [-1.0, 0.0]])
    teacher = torch.tensor([[3.0, 0.0], [0.0, 5.0], [1.0, 0.0]])
    expected = (0 + (1 - math.sqrt(0.5)) + 2) / 3
    assert hidden_cosine(student, teacher).item() == pytest.approx(expected, rel=1e-5)


def test_soft_target_loss_follows_the_kind_of_task() -> None:
    student, teacher = _logits()
    assert torch.equal(soft_target_loss("regression", student, teacher, 2.0), logit_mse(student, teacher))
    assert torch.equal(
        soft_target_loss("multi-label", student, teacher, 2.0), soft_binary_loss(student, teacher, 2.0)
    )
    for kind in ("sequence-classification", "masked-lm"):
        assert torch.equal(
            soft_target_loss(kind, student, teacher, 2.0), soft_label_loss(student, teacher, 2.0)
        )


def test_half_precision_logits_are_compared_in_full_precision() -> None:
    student, teacher = _logits()
    loss = soft_label_loss(student.bfloat16(), teacher.bfloat16(), 2.0)
    assert loss.dtype == torch.float32

"""Distillation losses as functions of tensors: what a student pays for differing from its teacher.

Every loss is a mean over rows. A row is an example of a classification task, or a token of a language model;
callers select the rows that count (no padding) before they call.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from compressbert.config.schema import TaskKind
from compressbert.nn.means import mean, mean_over


def soft_label_loss(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """T² · KL(softmax(teacher / T) ‖ softmax(student / T)), mean over rows (Hinton et al., arXiv 1503.02531).

    The factor T² keeps the size of the gradient, T · (softmax(student/T) − softmax(teacher/T)) / N,
    comparable between temperatures.

    Args:
        student: Logits, (N, C).
        teacher: Logits, (N, C); no gradient flows into them.
        temperature: T, above 0. Higher means softer targets.
    """
    log_student = functional.log_softmax(student.float() / temperature, dim=-1)
    log_teacher = functional.log_softmax(teacher.detach().float() / temperature, dim=-1)
    total = functional.kl_div(log_student, log_teacher, reduction="sum", log_target=True)
    return mean_over(total, len(student)) * temperature**2


def soft_binary_loss(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """T² · KL between independent yes/no distributions, mean over rows and labels: for multi-label data.

    It is the binary cross-entropy with the teacher's probabilities as targets, less their entropy, so that it
    is 0 when the logits are equal. The mean over labels matches the task's own binary cross-entropy.

    Args:
        student: Logits, (N, C).
        teacher: Logits, (N, C).
        temperature: T, above 0.
    """
    student, teacher = student.float() / temperature, teacher.detach().float() / temperature
    targets = torch.sigmoid(teacher)
    loss = functional.binary_cross_entropy_with_logits(student, targets, reduction="none")
    entropy = functional.binary_cross_entropy_with_logits(teacher, targets, reduction="none")
    return mean(loss - entropy) * temperature**2


def logit_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of logits, summed over classes, mean over rows (Ba and Caruana, arXiv 1312.6184).

    Not shift invariant: it suits a student whose head comes from its teacher.
    """
    return mean((student.float() - teacher.detach().float()).square().sum(-1))


def hidden_cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """1 − cosine of two sets of vectors, averaged over rows. Both (N, H)."""
    similarity = functional.cosine_similarity(student.float(), teacher.detach().float(), dim=-1)  # (N,)
    return mean(1.0 - similarity)


def soft_target_loss(kind: TaskKind, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """The soft-target loss that fits a kind of task: one class of many, several labels, or a number.

    A regression or an embedding has no distribution to soften, so its soft target is the teacher's own number
    or vector (squared error).
    """
    if kind in ("regression", "sentence-embedding"):
        return logit_mse(student, teacher)
    if kind == "multi-label":
        return soft_binary_loss(student, teacher, temperature)
    return soft_label_loss(student, teacher, temperature)

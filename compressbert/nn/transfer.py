"""What a student pays for working otherwise than its teacher inside: states, attention, and relations between tokens.

All losses are means over what is real: padding takes no part, so a batch padded further costs the same. No gradient
flows into a teacher's tensors.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from compressbert.nn.means import mean, mean_over


def patient_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Σ over layers of ‖s/‖s‖ − t/‖t‖‖², mean over examples (Sun et al., arXiv 1908.09355, equation 7).

    Args:
        student: First-token states of the student's layers, (N, k, H).
        teacher: Those of the teacher's layers they are matched with, (N, k, H).
    """
    ours = functional.normalize(student.float(), dim=-1)
    theirs = functional.normalize(teacher.detach().float(), dim=-1)
    return mean((ours - theirs).square().sum(dim=(1, 2)))


def hidden_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Squared difference of states, mean over real tokens and features.

    Args:
        student: (B, S, H), already projected to the teacher's width where it differs.
        teacher: (B, S, H).
        mask: (B, S), 1 for real tokens.
    """
    real = mask.bool()
    return mean((student.float()[real] - teacher.detach().float()[real]).square())


def feature_map_losses(student: Tensor, teacher: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """How far states are from a teacher's: in shape, in mean and in spread (Sun et al., arXiv 2004.02984).

    With μ and σ² a token's mean and variance over features: ``features`` is the squared difference of (h − μ) / σ,
    mean over real tokens and features; ``mean`` that of μ, and ``variance`` the difference of σ², means over tokens.

    Args:
        student: (B, S, H).
        teacher: (B, S, H), of the layer that this one is matched with.
        mask: (B, S), 1 for real tokens.
    """
    real = mask.bool()
    ours, theirs = student.float()[real], teacher.detach().float()[real]  # (tokens, H)
    width = ours.shape[-1:]
    difference = functional.layer_norm(ours, width) - functional.layer_norm(theirs, width)
    spread = ours.var(-1, correction=0) - theirs.var(-1, correction=0)
    return {
        "features": mean(difference.square()),
        "mean": mean((ours.mean(-1) - theirs.mean(-1)).square()),
        "variance": mean(spread.abs()),
    }


def score_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Squared difference of attention scores before the softmax, mean over heads and pairs of real tokens.

    Args:
        student: q·k scaled by the head size's root, without the mask, (B, A, S, S).
        teacher: Likewise, with as many heads.
        mask: (B, S), 1 for real tokens.
    """
    pairs = _pairs(mask)  # (B, 1, S, S)
    heads = student.shape[1]
    error = (student.float() - teacher.detach().float()).square().masked_fill(~pairs, 0.0)
    return mean_over(error.sum(), pairs.sum() * heads)


def attention_kl(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """KL(teacher ‖ student) of attention distributions, mean over heads and real queries.

    Args:
        student: Scores (B, A, S, S) before the softmax, scaled, without the mask; what A counts (heads, relation
            heads) must agree, the width behind it need not.
        teacher: Likewise.
        mask: (B, S), 1 for real tokens; other keys get no attention on either side.
    """
    pairs = _pairs(mask)
    log_student = _log_attention(student.float(), mask)
    log_teacher = _log_attention(teacher.detach().float(), mask)
    terms = log_teacher.exp() * (log_teacher - log_student)  # (B, A, S, S), 0 in columns of padding
    total = terms.masked_fill(~pairs, 0.0).sum()
    return mean_over(total, mask.sum() * student.shape[1])


def relations(vectors: Tensor) -> Tensor:
    """Scaled products of every two tokens' vectors in each head: (B, A, S, d) to (B, A, S, S)."""
    return vectors @ vectors.transpose(-1, -2) / math.sqrt(vectors.shape[-1])


def split_heads(rows: Tensor, heads: int) -> Tensor:
    """Features cut into ``heads`` equal parts: (B, S, A·d) to (B, heads, S, A·d / heads).

    The cut runs along the features, also across the model's own heads: (B, A, S, d) reshaped directly would mix
    positions.
    """
    batch, length, width = rows.shape
    return rows.view(batch, length, heads, width // heads).transpose(1, 2)


def _pairs(mask: Tensor) -> Tensor:
    real = mask.bool()
    return (real[:, None, :, None] & real[:, None, None, :]).expand(-1, 1, -1, -1)


def _log_attention(scores: Tensor, mask: Tensor) -> Tensor:
    """Log of softmax over real keys; 0 in columns of padding, where the product with a probability of 0 is 0."""
    hidden = ~mask.bool()[:, None, None, :]
    lowest = torch.finfo(scores.dtype).min
    return functional.log_softmax(scores.masked_fill(hidden, lowest), dim=-1).masked_fill(hidden, 0.0)

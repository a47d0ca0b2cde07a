"""Tables of word-piece vectors: fewer dimensions, and less weight for what is said often."""

from __future__ import annotations

import torch
from torch import Tensor


def principal_axes(rows: Tensor, width: int) -> Tensor:
    """The ``width`` directions along which the rows vary most, (H, width), orthonormal, the strongest first.

    From the eigenvectors of the rows' covariance, in float64. The sign of an axis, which is free, is chosen so that
    its largest entry is positive.

    Args:
        rows: (N, H).
        width: At most H.
    """
    centred = rows.double() - rows.double().mean(0)
    _, vectors = torch.linalg.eigh(centred.T @ centred)  # ascending
    axes = vectors.flip(1)[:, :width]
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    found: Tensor = (axes * largest.sign()).to(rows.dtype)
    return found


def frequency_weights(counts: Tensor, a: float) -> Tensor:
    """a / (a + p) for each word piece, p its share of all (Arora et al. 2017, "smooth inverse frequency").

    Args:
        counts: (V,) how often each occurs; one that never does weighs 1.
        a: Above 0; smaller means that frequent ones weigh less.
    """
    shares = counts.double() / counts.sum().clamp(min=1)
    return (a / (a + shares)).float()


def ranked_counts(size: int) -> Tensor:
    """Counts that fall as 1 / rank (Zipf), for a vocabulary in order of frequency of which no text is at hand: (V,)."""
    return 1.0 / torch.arange(2, size + 2, dtype=torch.float64)

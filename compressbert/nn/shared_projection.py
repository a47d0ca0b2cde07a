"""What a narrow network's weights pay for not being a wide one's, seen through projections shared by all of its layers.

Zhao et al. 2019, Extreme Language Model Compression with Optimal Subwords and Shared Projections, arXiv 1909.11687v1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Direction = Literal["up", "down"]


@dataclass(frozen=True)
class Pair:
    """A tensor of the student, one of the teacher, and for each of their axes the kind of feature it runs over.

    None is an axis that both have alike, such as words. A kind has one projection, whatever the layer.
    """

    student: Tensor
    teacher: Tensor
    axes: tuple[str | None, ...]


class SharedProjections(nn.Module):
    """One matrix for each kind of feature, from the student's width to the teacher's (``up``), or back (``down``).

    They begin with the leading features: ones on the diagonal, else zeros.
    """

    def __init__(self, pairs: Sequence[Pair], direction: Direction) -> None:
        """Args: what will be compared; which side is projected."""
        super().__init__()
        self.direction = direction
        self.matrices = nn.ParameterDict()
        for pair in pairs:
            for kind, ours, theirs in zip(pair.axes, pair.student.shape, pair.teacher.shape, strict=True):
                if kind is not None and kind not in self.matrices:
                    sizes = (ours, theirs) if direction == "up" else (theirs, ours)
                    self.matrices[kind] = nn.Parameter(torch.eye(*sizes))

    def forward(self, pairs: Sequence[Pair]) -> Tensor:
        """Σ over pairs of ‖U_aᵀ θ_s U_b − θ_t‖² (up) or ‖V_aᵀ θ_t V_b − θ_s‖² (down), summed over elements."""
        device = pairs[0].student.device
        with torch.autocast(device.type, enabled=False):  # differences of weights are small
            return torch.stack([self._distance(pair) for pair in pairs]).sum()

    def _distance(self, pair: Pair) -> Tensor:
        sides = (pair.student, pair.teacher)
        moved, target = sides if self.direction == "up" else sides[::-1]
        for axis, kind in enumerate(pair.axes):
            if kind is not None:
                moved = torch.tensordot(moved, self.matrices[kind], dims=([axis], [0])).movedim(-1, axis)
        return (moved - target).square().sum()

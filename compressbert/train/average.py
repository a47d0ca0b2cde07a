"""Training several times from one start, and the mean of the weights that the runs come to.

Runs from one start that differ only in the order of their data mostly end in one basin of the loss: the mean of
their weights answers about as the mean of their answers would, at the cost of one network. From random weights
they seldom do, and the mean may then answer worse than any of them.

Source: M. Wortsman et al. Model soups. ICML 2022. arXiv 2203.05482
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from compressbert import progress
from compressbert.train.checkpoint import copy_into, tensors_of
from compressbert.train.plan import derived_seed
from compressbert.train.result import FitResult, joined


class Training(Protocol):
    """A training that lacks only its seed and its name."""

    def __call__(self, *, seed: int, stage: str) -> FitResult: ...


def average_runs(
    train: Training, runs: int, modules: Sequence[nn.Module], *, seed: int, stage: str
) -> FitResult:
    """Train ``modules`` ``runs`` times from where they stand, and leave them at the mean of the weights.

    The first run is what ``train`` does with ``seed`` and ``stage``; the others have seeds that follow from
    ``seed``, and the names ``stage-2`` and so on. The result joins those of the runs. A tensor that no run
    changes keeps its bits; counters (integers, flags) are those of the last run.
    """
    together = nn.ModuleList(modules)
    start = _copy_of(together)
    mean: dict[str, Tensor] = {}
    results = []
    for run in range(runs):
        progress.note(f"{stage}: run {run + 1} of {runs} from the same start")
        copy_into(together, start)
        own = (seed, stage) if run == 0 else (derived_seed(seed, "again", run), f"{stage}-{run + 1}")
        results.append(train(seed=own[0], stage=own[1]))
        mean = _counted_in(mean, _copy_of(together), run + 1)
    copy_into(together, mean)
    return joined(results)


def _counted_in(mean: dict[str, Tensor], now: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """The mean of ``count`` runs, ``now`` the last of them and ``mean`` that of those before it."""
    if count == 1:
        return now
    # Not a sum to be divided in the end: tensors that are all equal would not stay so to the bit.
    return {
        name: mean[name] + (tensor - mean[name]) / count if tensor.is_floating_point() else tensor
        for name, tensor in now.items()
    }


def _copy_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors_of(module).items()}

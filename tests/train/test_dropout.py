"""Dropout of one training: what the setting says while it runs, and the network's own before and after."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor, nn

from compressbert.data.batches import Batch
from compressbert.model.handle import Model
from tests.train.support import task_loss, tiny_model, toy, train


def probabilities(model: Model) -> set[float]:
    return {module.p for module in model.network.modules() if isinstance(module, nn.Dropout)}


@pytest.mark.parametrize(("setting", "expected"), [(0.0, {0.0}), (0.3, {0.3}), (None, {0.1})])
def test_it_lasts_as_long_as_the_training(
    setting: float | None, expected: set[float], tmp_path: Path
) -> None:
    model, (task, _) = tiny_model(), toy(tmp_path)
    assert probabilities(model) == {0.1}
    seen: list[set[float]] = []

    def loss(model: Model, batch: Batch) -> dict[str, Tensor]:
        seen.append(probabilities(model))
        return task_loss(task)(model, batch)

    train(model, tmp_path, settings={"max_steps": 2, "dropout": setting}, loss=loss)
    assert seen == [expected, expected]
    assert probabilities(model) == {0.1}

"""What a training changes about a network while it runs, and puts back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from compressbert.data.batches import Batch
from compressbert.errors import ConfigError
from compressbert.model.handle import Model
from tests.train.support import task_loss, tiny_model, toy, train


def probabilities(model: Model) -> set[float]:
    return {module.p for module in model.network.modules() if isinstance(module, nn.Dropout)}


@pytest.mark.parametrize(("setting", "expected"), [(0.0, {0.0}), (0.3, {0.3}), (None, {0.1})])
def test_dropout_lasts_as_long_as_the_training(
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


def test_frozen_words_stay_and_take_gradients_again_afterwards(tmp_path: Path) -> None:
    model = tiny_model()
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    train(model, tmp_path, settings={"max_steps": 2, "freeze_words": True})
    same = {name for name, tensor in model.network.state_dict().items() if torch.equal(tensor, before[name])}
    assert "bert.embeddings.word_embeddings.weight" in same
    assert "bert.embeddings.position_embeddings.weight" not in same
    assert "bert.encoder.layer.0.attention.self.query.weight" not in same
    assert all(parameter.requires_grad for parameter in model.network.parameters())


def test_words_that_were_frozen_before_stay_so(tmp_path: Path) -> None:
    model = tiny_model()
    words = model.network.get_input_embeddings().weight
    words.requires_grad_(False)
    train(model, tmp_path, settings={"max_steps": 1, "freeze_words": True})
    assert not words.requires_grad


def test_a_network_without_word_embeddings_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model()

    def unknown(_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(type(model.network), "get_input_embeddings", unknown)
    with pytest.raises(ConfigError, match="BertForSequenceClassification names none"):
        train(model, tmp_path, settings={"max_steps": 1, "freeze_words": True})

"""Learning rates, parameter groups, precision and clipping, against hand arithmetic and stock AdamW."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from compressbert.config.schema import TrainConfig
from compressbert.train.optim import (
    build_optimizer,
    clip_gradients,
    has_native_bf16,
    learning_rate_at,
    set_learning_rate,
    use_bf16,
)
from tests.tiny import tiny_network

CPU = torch.device("cpu")


def rates(total: int, **settings: object) -> list[float]:
    config = TrainConfig.model_validate({"learning_rate": 1.0, **settings})
    return [learning_rate_at(step, total, config) for step in range(total)]


def test_linear_schedule_rises_to_the_peak_then_falls_towards_zero() -> None:
    assert rates(10, warmup=0.2) == pytest.approx(
        [0.5, 1.0, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
    )


def test_cosine_schedule_is_half_way_down_half_way_through() -> None:
    values = rates(8, warmup=0.0, schedule="cosine")
    assert values[0] == 1.0
    assert values[4] == pytest.approx(0.5)
    assert values[6] == pytest.approx(0.5 * (1 + math.cos(0.75 * math.pi)))


def test_constant_schedule_stays_at_the_peak_after_warm_up() -> None:
    assert rates(4, warmup=0.5, schedule="constant") == [0.5, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("total", [1, 2, 3, 17])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 1.0])
def test_every_step_moves_and_none_exceeds_the_peak(schedule: str, total: int, warmup: float) -> None:
    assert all(0.0 < rate <= 1.0 for rate in rates(total, schedule=schedule, warmup=warmup))


def test_only_matrices_decay_and_each_parameter_is_in_one_group() -> None:
    network = tiny_network(head="masked-lm")  # its decoder is tied to the word embeddings
    network.bert.embeddings.position_embeddings.weight.requires_grad_(False)
    optimizer = build_optimizer(network, TrainConfig(weight_decay=0.3))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(decay)
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            assert id(parameter) not in decay
        elif name.endswith("bias") or "LayerNorm" in name:
            assert decay[id(parameter)] == 0.0, name
        else:
            assert decay[id(parameter)] == 0.3, name


def test_step_equals_stock_adamw() -> None:
    torch.manual_seed(0)
    ours, stock = nn.Linear(7, 5), nn.Linear(7, 5)
    stock.load_state_dict(ours.state_dict())
    settings = TrainConfig(learning_rate=0.1, weight_decay=0.5, adam_epsilon=1e-6)
    optimizer = build_optimizer(ours, settings)
    groups = [{"params": [stock.weight], "weight_decay": 0.5}, {"params": [stock.bias], "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=0.1, eps=1e-6, foreach=False, fused=False)
    for step in range(3):
        set_learning_rate(optimizer, 0.1 / (step + 1))
        set_learning_rate(reference, 0.1 / (step + 1))
        x = torch.randn(4, 7)
        for module, each in ((ours, optimizer), (stock, reference)):
            each.zero_grad()
            module(x).square().sum().backward()
            each.step()
    torch.testing.assert_close(ours.weight, stock.weight)
    torch.testing.assert_close(ours.bias, stock.bias)


def test_gradients_longer_than_the_limit_are_scaled_to_it() -> None:
    gradients = [torch.tensor([3.0, 0.0]), torch.tensor([4.0])]
    assert clip_gradients(gradients, 1.0).item() == pytest.approx(5.0)
    assert gradients[0].tolist() == pytest.approx([0.6, 0.0], abs=1e-6)
    assert gradients[1].tolist() == pytest.approx([0.8], abs=1e-6)


@pytest.mark.parametrize("limit", [0.0, 5.0, 100.0])
def test_gradients_within_the_limit_stay_exactly_as_they_are(limit: float) -> None:
    gradients = [torch.tensor([3.0, 0.0]), torch.tensor([4.0])]
    assert clip_gradients(gradients, limit).item() == pytest.approx(5.0)
    assert gradients[0].tolist() == [3.0, 0.0]
    assert gradients[1].tolist() == [4.0]


def test_precision_follows_the_setting_and_auto_the_hardware() -> None:
    assert use_bf16("bf16", CPU)
    assert not use_bf16("fp32", CPU)
    assert use_bf16("auto", CPU) == has_native_bf16(CPU)
    assert not has_native_bf16(torch.device("meta"))

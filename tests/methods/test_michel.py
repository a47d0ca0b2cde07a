"""Michel head pruning: budgets, uneven layers, and that it beats chance where the task is planted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from compressbert.errors import ConfigError
from compressbert.methods.base import Run, labels_of
from compressbert.methods.prune.michel import Config, compress, keep_steps, score_heads, surviving_heads
from compressbert.model.edits import keep_heads
from compressbert.model.handle import Model
from compressbert.nn.losses import soft_label_loss
from tests.methods.toy import logits, same_weights, toy_data, toy_model, toy_run, trained, weights
from tests.tiny import padded_batch


def _heads(model: Model) -> list[int]:
    return [layer.heads for layer in model.family.layers(model.network)]


def test_steps_fall_by_the_fraction_and_end_at_keep() -> None:
    assert list(keep_steps(0.75, 0.1)) == pytest.approx([0.9, 0.8, 0.75])
    assert list(keep_steps(0.7, 0.1)) == pytest.approx([0.9, 0.8, 0.7])
    assert list(keep_steps(0.5, 1.0)) == [0.5]
    assert list(keep_steps(1.0, 0.1)) == []


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("step", [0.1, 1.0])
def test_the_budget_is_met_exactly(tmp_path: Path, scope: str, step: float) -> None:
    model = toy_model(tmp_path, layers=3)
    pruned = compress(model, Config(keep=0.5, scope=scope, step_fraction=step), toy_run(tmp_path, model))
    assert sum(_heads(pruned)) == 6
    assert scope == "global" or _heads(pruned) == [2, 2, 2]
    assert [edit.op for edit in pruned.edits] == ["keep_heads"]


def test_pruned_logits_are_those_of_the_model_with_the_heads_masked(tmp_path: Path) -> None:
    model = toy_model(tmp_path)
    run = toy_run(tmp_path, model)
    config = Config(keep=0.5, step_fraction=1)
    survivors = surviving_heads(model, config, run)
    pruned = compress(model, config, toy_run(tmp_path, model))
    masked = model.copy()
    with torch.no_grad():
        for layer, heads in zip(masked.family.layers(masked.network), survivors, strict=True):
            for head in set(range(4)) - set(heads):
                layer.attention_out.weight[:, head * 8 : head * 8 + 8] = 0
    torch.testing.assert_close(
        logits(pruned, padded_batch()), logits(masked, padded_batch()), rtol=1e-5, atol=1e-6
    )
    assert [len(heads) for heads in survivors] == _heads(pruned)


def test_one_shot_removes_the_lowest_scores(tmp_path: Path) -> None:
    model = toy_model(tmp_path)
    batches = list(toy_run(tmp_path, model).sample_batches(model, 64))
    scores = torch.stack(score_heads(model, batches, toy_run(tmp_path, model), normalize=False)).flatten()
    config = Config(keep=0.75, step_fraction=1, normalize=False)
    survivors = surviving_heads(model, config, toy_run(tmp_path, model))
    kept = {4 * layer + head for layer, heads in enumerate(survivors) for head in heads}
    assert kept == set(scores.topk(6).indices.tolist())


def test_an_already_uneven_model_is_pruned_on(tmp_path: Path) -> None:
    model = toy_model(tmp_path)
    keep_heads(model, {0: [1], 1: [0, 2, 3]})
    pruned = compress(model, Config(keep=0.5), toy_run(tmp_path, model))
    assert sum(_heads(pruned)) == 2
    assert _heads(model) == [1, 3]
    assert torch.isfinite(logits(pruned, padded_batch())).all()


def test_minimum_heads(tmp_path: Path) -> None:
    model = toy_model(tmp_path)
    with torch.no_grad():
        model.family.layers(model.network)[1].attention_out.weight.zero_()
    assert _heads(compress(model, Config(keep=0.5), toy_run(tmp_path, model))) == [3, 1]
    assert _heads(compress(model, Config(keep=0.5, minimum_heads=2), toy_run(tmp_path, model))) == [2, 2]


def test_budgets_that_cannot_be_met(tmp_path: Path) -> None:
    model = toy_model(tmp_path)
    with pytest.raises(ConfigError, match=r"keep: 0.1 leaves 1 of 8 heads.*must keep 2") as raised:
        compress(model, Config(keep=0.1), toy_run(tmp_path, model))
    assert "0.25" in raised.value.hint
    for keep in (0, -0.5, 1.5):
        with pytest.raises(ValidationError):
            Config(keep=keep)


def test_retune_brings_the_pruned_model_back_to_the_dense_one(tmp_path: Path, learned: Model) -> None:
    config = Config(keep=0.25, retune_epochs=5)
    cut = compress(learned, Config(keep=0.25), toy_run(tmp_path, learned))
    run = toy_run(tmp_path, learned, settings={"max_steps": 40})
    tuned = compress(learned, config, run)
    inputs = next(toy_run(tmp_path, learned).sample_batches(learned, 64, batch_size=64)).inputs
    dense, before, after = (logits(model, inputs) for model in (learned, cut, tuned))
    assert _heads(tuned) == _heads(cut)
    assert soft_label_loss(after, dense).item() < 0.7 * soft_label_loss(before, dense).item()
    assert {"soft", "task"} <= run.log[0].keys()


def test_rows_and_seed_decide_the_sample(tmp_path: Path) -> None:
    model = toy_model(tmp_path)
    samples = [toy_run(tmp_path, model, seed=seed).sample(10).key for seed in (0, 0, 1)]
    assert samples[0] == samples[1] != samples[2]
    assert len(toy_run(tmp_path, model).sample(10_000)) == 64


def test_planted_heads_are_found_and_beat_chance_at_an_equal_budget(tmp_path: Path) -> None:
    idle, busy = {0: [0, 1, 3], 1: [1, 2]}, [[2], [0, 3]]
    model, run = trained(tmp_path, steps=80, idle=idle)
    config = Config(keep=0.375, rows=256)
    assert surviving_heads(model, config, run) == busy
    task, fresh = toy_data(tmp_path, model, rows=256, seed=99)
    held_out = Run.create(task=task, train=fresh, work=tmp_path / "held_out")
    batches = list(held_out.sample_batches(model, 256))

    def loss(pruned: Model) -> float:
        return sum(task.loss(logits(pruned, b.inputs), labels_of(b)).item() * len(b) for b in batches) / 256

    chosen = loss(compress(model, config, run))
    generator = torch.Generator().manual_seed(0)
    random = []
    while len(random) < 10:
        kept = torch.randperm(8, generator=generator)[:3].tolist()
        heads = {layer: [h % 4 for h in kept if h // 4 == layer] for layer in (0, 1)}
        if all(heads.values()):
            pruned = model.copy()
            keep_heads(pruned, heads)
            random.append(loss(pruned))
    assert chosen < 0.9 * sum(random) / len(random)
    assert chosen < loss(model) + 0.1


def test_input_is_untouched(tmp_path: Path) -> None:
    model = toy_model(tmp_path)
    before = weights(model)
    compress(model, Config(keep=0.5), toy_run(tmp_path, model))
    assert same_weights(before, weights(model))
    assert all(parameter.grad is None for parameter in model.network.parameters())

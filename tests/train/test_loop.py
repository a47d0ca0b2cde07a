"""The loop: what it minimises, in which order, what it reports, and that the outcome follows from its arguments."""

from __future__ import annotations

import math
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from compressbert import progress
from compressbert.config.schema import TrainConfig
from compressbert.data.batches import Batch, training_batches
from compressbert.errors import ConfigError, WorkError
from compressbert.model.handle import Model
from compressbert.train.loop import fit
from compressbert.train.predict import score
from tests.train.support import same, task_loss, tiny_model, toy, train, weights


def test_training_learns_the_toy_task_and_ends_in_evaluation_mode(tmp_path: Path) -> None:
    model = tiny_model()
    result = train(model, tmp_path, rows=200, settings={"epochs": 6, "learning_rate": 3e-3})
    assert not any(module.training for module in model.network.modules())
    task, unseen = toy(tmp_path, rows=100, seed=9)
    assert score(model, unseen, task) >= 0.95
    assert result.steps == 6 * 25
    assert result.log[-1]["loss"] < 0.5 * result.log[0]["loss"]
    assert 40 <= len(result.log) <= 60
    assert result.resumed_from is None


def test_two_steps_equal_a_loop_written_out_with_stock_adamw(tmp_path: Path) -> None:
    task, encoded = toy(tmp_path)
    model, reference = tiny_model(hidden_dropout_prob=0.0), tiny_model(hidden_dropout_prob=0.0)
    for each in (model, reference):
        each.network.config.attention_probs_dropout_prob = 0.0
        for module in each.network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        for (
            layer
        ) in each.network.bert.encoder.layer:  # its true gradient is 0: Adam would scale rounding noise up
            layer.attention.self.key.bias.requires_grad_(False)
    options = {
        "precision": "fp32",
        "gradient_accumulation": 2,
        "max_steps": 2,
        "max_grad_norm": 0.5,
        "warmup": 0.0,
    }
    train(model, tmp_path, settings={**options, "weight_decay": 0.0, "schedule": "constant"})

    reference.network.train()
    optimizer = torch.optim.AdamW(
        reference.network.parameters(), lr=1e-3, weight_decay=0.0, foreach=False, fused=False
    )
    batches = training_batches(encoded, batch_size=8, seed=0, epoch=0, pad_id=0)
    for step in range(2):
        for i in (2 * step, 2 * step + 1):
            batch = batches[i]
            (task.loss(reference(**batch.inputs).logits, batch.labels) / 2).backward()
        torch.nn.utils.clip_grad_norm_(reference.network.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
    for (name, ours), (_, stock) in zip(
        model.network.named_parameters(), reference.network.named_parameters(), strict=True
    ):
        torch.testing.assert_close(ours, stock, rtol=1e-4, atol=1e-6, msg=name)


def test_parts_are_summed_and_logged_and_extra_modules_are_trained(tmp_path: Path) -> None:
    projection = nn.Linear(2, 3)
    before = weights(projection)

    def loss(model: Model, batch: Batch) -> dict[str, Tensor]:
        logits = model(**batch.inputs).logits
        return {"near": logits.square().mean(), "far": 2.0 * projection(logits).square().mean()}

    result = train(tiny_model(), tmp_path, loss=loss, extra_modules={"projection": projection})
    assert not same(before, weights(projection))
    assert not projection.training
    for point in result.log:
        assert point["loss"] == pytest.approx(point["near"] + point["far"])
        assert set(point) == {"near", "far", "loss", "step", "learning_rate"}


def test_frozen_parameters_stay_bit_identical_and_the_rest_moves(tmp_path: Path) -> None:
    model = tiny_model()
    frozen = model.network.bert.embeddings
    frozen.requires_grad_(False)
    before = weights(frozen), weights(model.network.bert.encoder)
    train(model, tmp_path)
    assert same(before[0], weights(frozen))
    assert not any(
        torch.equal(before[1][n], t) for n, t in weights(model.network.bert.encoder).items() if "weight" in n
    )


def test_same_seed_same_bytes_whatever_ran_before_and_another_seed_differs(tmp_path: Path) -> None:
    outcomes = []
    for run, seed in enumerate([0, 0, 1]):
        torch.manual_seed(run)
        torch.rand(run)
        state = torch.get_rng_state()
        model = tiny_model_untouched_by_rng()
        train(model, tmp_path / str(run), seed=seed)
        assert torch.equal(torch.get_rng_state(), state), "the caller's random state was changed"
        outcomes.append(weights(model.network))
    assert same(outcomes[0], outcomes[1])
    assert not same(outcomes[0], outcomes[2])


def tiny_model_untouched_by_rng() -> Model:
    with torch.random.fork_rng(devices=[]):
        return tiny_model()


def test_dropout_is_on_in_training_and_logits_reach_the_loss_in_float32(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def loss(model: Model, batch: Batch) -> dict[str, Tensor]:
        first, second = model(**batch.inputs).logits, model(**batch.inputs).logits
        seen["differ"] = not torch.equal(first, second)
        seen["dtype"] = first.dtype
        seen["inside"] = (first @ first.T).dtype
        return {"x": first.square().mean()}

    model = tiny_model()
    train(model, tmp_path, loss=loss, settings={"precision": "bf16", "max_steps": 1})
    assert seen == {"differ": True, "dtype": torch.float32, "inside": torch.bfloat16}
    _, encoded = toy(tmp_path)
    batch = training_batches(encoded, batch_size=8, seed=0, epoch=0, pad_id=0)[0]
    assert not model.network._forward_hooks
    assert torch.equal(model(**batch.inputs).logits, model(**batch.inputs).logits)


def test_hooks_surround_each_step(tmp_path: Path) -> None:
    model, seen = tiny_model(), []
    head = model.network.classifier.weight

    def before(step: int, total: int) -> None:
        seen.append(("before", step, total, head.detach().clone()))

    def after(step: int, total: int) -> None:
        seen.append(("after", step, total, head.detach().clone()))

    train(model, tmp_path, settings={"max_steps": 2, "warmup": 0.0}, before_step=before, after_step=after)
    assert [each[:3] for each in seen] == [
        ("before", 0, 2),
        ("after", 0, 2),
        ("before", 1, 2),
        ("after", 1, 2),
    ]
    assert not torch.equal(seen[0][3], seen[1][3])
    assert torch.equal(seen[1][3], seen[2][3])


def test_keep_best_returns_the_best_epoch_and_early_stop_stops(tmp_path: Path) -> None:
    task, validation = toy(tmp_path, rows=40, seed=5)
    model = tiny_model()
    at_step: dict[int, dict[str, Tensor]] = {}

    def ruin(step: int, total: int) -> None:
        if step >= 16:  # from the third epoch on the head forgets
            with torch.no_grad():
                model.network.classifier.weight.zero_()
                model.network.classifier.bias.copy_(torch.tensor([1.0, 0.0]))
        at_step[step + 1] = weights(model.network)

    settings = {"epochs": 9, "keep": "best", "early_stop": 2, "learning_rate": 3e-3}
    result = train(model, tmp_path, validation=validation, settings=settings, after_step=ruin)
    values = [epoch["accuracy"] for epoch in result.epochs]
    best = max(range(len(values)), key=values.__getitem__)
    assert best < 2, "the test needs a model that was better before it was ruined"
    assert len(values) == best + 3
    assert result.steps == 8 * len(values)
    assert result.kept_step == 8 * (best + 1)
    assert same(weights(model.network), at_step[result.kept_step])
    assert score(model, validation, task) == values[best]


def test_validation_follows_each_epoch_and_the_end(tmp_path: Path) -> None:
    _, validation = toy(tmp_path, rows=20, seed=5)
    result = train(tiny_model(), tmp_path, validation=validation, settings={"epochs": 2.5})
    assert [(e["epoch"], e["step"]) for e in result.epochs] == [(1.0, 8.0), (2.0, 16.0), (2.5, 20.0)]


@pytest.mark.parametrize("settings", [{"keep": "best"}, {"early_stop": 1}])
def test_choosing_by_validation_without_validation_is_refused(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="validation"):
        train(tiny_model(), tmp_path, settings=settings)
    assert not (tmp_path / "work").exists()


def test_divergence_names_the_stage_the_step_and_the_rate(tmp_path: Path) -> None:
    task, _ = toy(tmp_path)
    calls = []

    def loss(model: Model, batch: Batch) -> dict[str, Tensor]:
        calls.append(1)
        good = task_loss(task)(model, batch)["task"]
        return {"task": good, "aux": good * (math.nan if len(calls) == 5 else 0.0)}

    with pytest.raises(
        WorkError, match=r"train: training diverged at step 5 of 16: loss part 'aux' is nan"
    ) as caught:
        train(tiny_model(), tmp_path, loss=loss)
    assert "learning_rate" in caught.value.hint
    assert caught.value.exit_code == 4


def test_a_finite_loss_with_infinite_gradients_is_divergence_too(tmp_path: Path) -> None:
    def loss(model: Model, batch: Batch) -> dict[str, Tensor]:
        logits = model(**batch.inputs).logits
        return {"x": (logits * 0.0).clamp(min=0.0).sqrt().sum()}  # 0, with slope infinity times 0

    with pytest.raises(WorkError, match="step 1 of 16: the norm of the gradients is"):
        train(tiny_model(), tmp_path, loss=loss)


def test_masked_language_model_trains_and_its_tied_decoder_stays_tied(tmp_path: Path) -> None:
    task, encoded = toy(tmp_path, rows=200, kind="masked-lm")
    model = tiny_model(head="masked-lm")
    settings = TrainConfig(batch_size=16, learning_rate=3e-3, epochs=4)
    result = fit(
        model, encoded, task_loss(task), settings, task=task, seed=0, work=tmp_path, stage="mlm", validation=encoded
    )  # fmt: skip
    assert result.log[-1]["loss"] < result.log[0]["loss"] - 0.3
    assert result.epochs[-1]["masked_accuracy"] == score(model, encoded, task)
    decoder, words = model.network.cls.predictions.decoder, model.network.bert.embeddings.word_embeddings
    assert decoder.weight is words.weight


def test_progress_counts_every_example_and_shows_loss_and_metric(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []

    class Seen:
        def __init__(self, label: str, total: float | None) -> None:
            self.label, self.total, self.done, self.facts = label, total, 0.0, {}
            shown.append(self)

        def advance(self, amount: float = 1, **facts: Any) -> None:
            self.done += amount
            self.facts.update(facts)

    class Listener(progress.Silent):
        def start(self, label: str, total: float | None, unit: str) -> Any:
            return Seen(label, total)

    monkeypatch.setattr(progress, "_listener", Listener())
    _, validation = toy(tmp_path, rows=20, seed=5)
    train(tiny_model(), tmp_path, validation=validation)
    training = next(task for task in shown if task.label == "train")
    assert training.total == training.done == 120
    assert set(training.facts) == {"loss", "accuracy"}


def test_a_user_s_own_accelerate_settings_do_not_change_the_outcome(tmp_path: Path) -> None:
    plain, beside = tiny_model(), tiny_model()
    train(plain, tmp_path / "plain", settings={"precision": "fp32"})
    AcceleratorState._reset_state()
    try:
        Accelerator(mixed_precision="bf16", cpu=True)
        train(beside, tmp_path / "beside", settings={"precision": "fp32"})
    finally:
        AcceleratorState._reset_state()
    assert same(weights(plain.network), weights(beside.network))


FAULTS = """
import resource, torch
from compressbert.train.memory import keep_freed_memory
keep_freed_memory()
torch.ones(64 * 2**18)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for megabytes in (60, 56, 52, 48, 44):  # each fits, though small objects may settle at the edge of what was freed
    torch.ones(megabytes * 2**18)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_large_blocks_are_reused_without_page_faults() -> None:
    """In a process of its own: a heap that other tests have grown into its neighbours may not grow further."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 60 * 2**20 // resource.getpagesize() / 10

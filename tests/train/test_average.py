"""`train.average_runs`: which runs there are, what their mean is, and what survives a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from compressbert import progress
from compressbert.data.batches import Batch
from compressbert.model.handle import Model
from compressbert.train.average import average_runs
from compressbert.train.predict import score
from compressbert.train.result import FitResult, joined
from tests.train.support import Notes, same, tiny_model, toy, train, weights


def result(steps: int, *, kept: int | None = None, seconds: float = 1.0, **other: Any) -> FitResult:
    log = ({"step": float(steps), "loss": 0.5},)
    epochs = ({"epoch": 1.0, "step": float(steps), "accuracy": 0.9},)
    arguments: dict[str, Any] = {"examples_per_second": 10.0, "resumed_from": None, **other}
    return FitResult(
        steps, seconds, log=log, epochs=epochs, kept_step=steps if kept is None else kept, **arguments
    )


def test_the_mean_is_that_of_the_runs_and_each_begins_at_the_start() -> None:
    network, gates = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    untouched = nn.Parameter(torch.tensor([0.1, 1 / 3, 1e-30]))
    network.register_parameter("untouched", untouched)
    count = torch.tensor(0)
    network.register_buffer("count", count)
    kept = untouched.detach().clone()
    with torch.no_grad():
        network.weight.fill_(10.0)
        gates.weight.fill_(0.0)
    changes = {"fit": 1.0, "fit-2": 2.0, "fit-3": 6.0}
    seeds = []

    def once(*, seed: int, stage: str) -> FitResult:
        seeds.append(seed)
        assert (network.weight.item(), gates.weight.item(), count.item()) == (10.0, 0.0, 0)
        with torch.no_grad():
            network.weight += changes[stage]
            gates.weight -= changes[stage]
            count.add_(4)
        return result(5)

    found = average_runs(once, 3, [network, gates], seed=7, stage="fit")
    assert network.weight.item() == pytest.approx(13.0)
    assert gates.weight.item() == pytest.approx(-3.0)
    assert count.item() == 4
    assert torch.equal(untouched, kept)
    assert seeds[0] == 7
    assert len(set(seeds)) == 3
    assert found.steps == 15


def test_results_of_runs_are_joined_and_their_steps_go_on_counting() -> None:
    found = joined([
        result(4, kept=2, seconds=1.0, examples_per_second=30.0, resumed_from=4),
        result(6, kept=5, seconds=3.0, examples_per_second=10.0),
    ])  # fmt: skip
    assert (found.steps, found.kept_step, found.resumed_from) == (10, 9, 4)
    assert (found.seconds, found.examples_per_second) == (4.0, 15.0)
    assert [point["step"] for point in found.log] == [4.0, 10.0]
    assert [point["step"] for point in found.epochs] == [4.0, 10.0]
    assert joined([result(4), result(4)]).resumed_from is None


def test_a_mean_of_two_trainings_lies_half_way_between_them(tmp_path: Path) -> None:
    """And its first run is the training alone, to the bit: read back here, where it is found finished."""
    alone, mean = tiny_model(), tiny_model()
    first = train(alone, tmp_path)
    steps: list[int] = []
    both = train(
        mean, tmp_path, settings={"average_runs": 2}, before_step=lambda step, total: steps.append(step)
    )
    assert steps == list(range(first.steps))  # those of the second run
    assert (both.steps, both.resumed_from) == (2 * first.steps, first.steps)
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["train", "train-2"]

    second = load_file(tmp_path / "work" / "train-2" / "done" / "weights.safetensors")
    runs_differ = []
    for name, ours in alone.network.named_parameters():
        other = second[f"network.{name}"]
        torch.testing.assert_close(mean.network.get_parameter(name), (ours + other) / 2)
        runs_differ.append(not torch.allclose(ours, other, atol=1e-5))
    assert sum(runs_differ) > len(runs_differ) // 2  # the second run read its data in another order

    read = tiny_model()
    train(read, tmp_path, settings={"average_runs": 2}, before_step=never)
    assert same(weights(read.network), weights(mean.network))


def never(step: int, total: int) -> None:
    raise AssertionError("a finished run was trained again")


def test_what_is_trained_beside_the_network_is_averaged_too(tmp_path: Path) -> None:
    def loss(model: Model, batch: Batch) -> dict[str, Tensor]:
        return {"far": projection(model(**batch.inputs).logits).square().mean()}

    ends = []
    projection = nn.Linear(2, 3)
    start = weights(projection)

    def keep_the_last(step: int, total: int) -> None:
        if step == total - 1:
            ends.append(projection.weight.detach().clone())

    settings = {"average_runs": 3}
    train(
        tiny_model(), tmp_path, loss=loss, extra_modules={"projection": projection}, settings=settings,
        after_step=keep_the_last,
    )  # fmt: skip
    assert len(ends) == 3
    assert not same(start, weights(projection))
    torch.testing.assert_close(projection.weight.detach(), torch.stack(ends).mean(dim=0))


def test_the_runs_and_the_score_of_their_mean_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task, validation), (_, rows) = toy(tmp_path, rows=40, seed=5), toy(tmp_path)
    listener = Notes()
    monkeypatch.setattr(progress, "_listener", listener)
    model, settings = tiny_model(), {"average_runs": 2, "max_steps": 3}
    train(model, tmp_path, settings=settings, encoded=rows, validation=validation)
    assert listener.said[-3:] == [
        "train: run 1 of 2 from the same start",
        "train: run 2 of 2 from the same start",
        f"train: the mean has accuracy {score(model, validation, task):.4f}",
    ]

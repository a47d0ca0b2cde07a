"""Each task's shape, loss and refusals."""

from __future__ import annotations

import math

import pytest
import torch

from compressbert.config.schema import DataConfig
from compressbert.errors import ConfigError
from compressbert.tasks.base import Task, primary, task_for


def make(kind: str, names: tuple[str, ...] = ()) -> Task:
    return task_for(DataConfig(task=kind), names)  # type: ignore[arg-type]


def test_outputs_and_primary_metric_of_each_kind() -> None:
    found = {
        kind: (task.num_outputs, task.primary_metric)
        for kind, task in {
            "sequence-classification": make("sequence-classification", ("a", "b", "c")),
            "regression": make("regression", ("ignored",)),
            "multi-label": make("multi-label", ("a", "b", "c", "d")),
            "masked-lm": make("masked-lm"),
        }.items()
    }
    assert found == {
        "sequence-classification": (3, "accuracy"),
        "regression": (1, "pearson"),
        "multi-label": (4, "micro_f1"),
        "masked-lm": (0, "masked_accuracy"),
    }


@pytest.mark.parametrize("kind", ["sequence-classification", "regression", "multi-label", "masked-lm"])
def test_the_primary_metric_is_reported_and_the_spec_agrees(kind: str) -> None:
    task = make(kind, ("a", "b"))
    assert task.primary_metric in [metric.name for metric in task.metrics]
    spec = task.spec()
    assert (spec.kind, spec.label_names, spec.num_outputs) == (kind, task.label_names, task.num_outputs)


def test_f1_of_the_positive_class_only_for_two_classes() -> None:
    two, three = make("sequence-classification", ("a", "b")), make("sequence-classification", ("a", "b", "c"))
    assert "f1" in [metric.name for metric in two.metrics]
    assert "f1" not in [metric.name for metric in three.metrics]


def test_losses_by_hand() -> None:
    classes = make("sequence-classification", ("a", "b"))
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
    assert classes.loss(logits, torch.tensor([1, 0])).item() == pytest.approx(
        (math.log(4 / 3) + math.log(2)) / 2
    )
    number = make("regression")
    assert number.loss(torch.tensor([[1.0], [3.0]]), torch.tensor([2.0, 1.0])).item() == pytest.approx(2.5)
    several = make("multi-label", ("a", "b"))
    labels = torch.tensor([[1.0, 0.0]])
    assert several.loss(torch.tensor([[math.log(3), 0.0]]), labels).item() == pytest.approx(
        (math.log(4 / 3) + math.log(2)) / 2
    )


def test_regression_does_not_broadcast_its_column_against_the_labels() -> None:
    logits = torch.tensor([[1.0], [2.0], [3.0]], requires_grad=True)
    assert make("regression").loss(logits, torch.tensor([1.0, 2.0, 3.0])).item() == 0.0


def test_masked_lm_scores_only_masked_words() -> None:
    task = make("masked-lm")
    logits = torch.zeros(2, 3, 4)
    logits[0, 1, 2] = math.log(3)  # p = 3/6
    labels = torch.full((2, 3), -100)
    labels[0, 1] = 2
    assert task.loss(logits, labels).item() == pytest.approx(math.log(2))


def test_masked_lm_without_a_masked_word_is_zero_with_a_gradient() -> None:
    logits = torch.randn(1, 3, 4, requires_grad=True)
    loss = make("masked-lm").loss(logits, torch.full((1, 3), -100))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize(("kind", "names"), [("sequence-classification", ("only",)), ("multi-label", ())])
def test_too_few_names_is_a_config_error(kind: str, names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="label name"):
        make(kind, names)


def test_the_metric_a_task_is_judged_by_can_be_chosen() -> None:
    assert task_for(DataConfig(), ("a", "b")).primary_metric == "accuracy"
    assert task_for(DataConfig(metric="f1"), ("a", "b")).primary_metric == "f1"
    assert primary(task_for(DataConfig(metric="recall[b]"), ("a", "b"))).name == "recall[b]"
    assert task_for(DataConfig(metric="mean_squared_error", task="regression"), ()).primary_metric == (
        "mean_squared_error"
    )
    with pytest.raises(ConfigError, match=r"no metric 'mathews' \(did you mean 'matthews'\?\)"):
        task_for(DataConfig(metric="mathews"), ("a", "b"))
    with pytest.raises(ConfigError, match="a regression task has no metric 'f1'"):
        task_for(DataConfig(metric="f1", task="regression"), ())


@pytest.mark.parametrize(
    ("hub", "metric"),
    [("glue/cola", "matthews"), ("nyu-mll/glue/mrpc", "f1"), ("glue/qqp", "f1"), ("glue/sst2", "accuracy"),
     ("someone/cola", "accuracy")],
)  # fmt: skip
def test_sets_of_glue_are_judged_as_glue_does(hub: str, metric: str) -> None:
    assert task_for(DataConfig(hub=hub), ("a", "b")).primary_metric == metric

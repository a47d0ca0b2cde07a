"""Internal representations: losses of matched layers, and which layers each stage trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from compressbert.methods.distill.internal_representations import (
    Config,
    compress,
    layer_losses,
    stages,
    training_loss,
)
from compressbert.methods.teacher_inside import teacher_inside
from compressbert.model.handle import Model
from compressbert.model.inside import Inside, look_inside
from compressbert.nn.transfer import attention_kl
from tests.methods.toy import same_weights, toy_model, toy_run, weights
from tests.tiny import padded_batch

MASK = padded_batch()["attention_mask"]


def inside(model: Model, layers: int = 2) -> Inside:
    with torch.no_grad():
        return look_inside(model, padded_batch(), layers=tuple(range(layers)))


def test_a_student_equal_to_its_teacher_has_nothing_to_learn(tmp_path: Path) -> None:
    teacher = inside(toy_model(tmp_path))
    for layer in (0, 1):
        found = layer_losses(teacher, teacher, MASK, [(layer, layer)])
        assert all(float(value) == pytest.approx(0, abs=1e-6) for value in found.values())


def test_losses_are_attention_and_first_token_of_the_matched_layers(tmp_path: Path) -> None:
    teacher, student = inside(toy_model(tmp_path, layers=4), 4), inside(toy_model(tmp_path, seed=5))
    found = layer_losses(student, teacher, MASK, [(0, 1), (1, 3)])
    attention = sum(
        attention_kl(student.scores(own), teacher.scores(other), MASK) for own, other in ((0, 1), (1, 3))
    )
    first = sum(
        (
            1 - functional.cosine_similarity(student.hidden[own + 1][:, 0], teacher.hidden[other + 1][:, 0])
        ).mean()
        for own, other in ((0, 1), (1, 3))
    )
    assert float(found["attention"]) == pytest.approx(float(attention))
    assert float(found["first_token"]) == pytest.approx(float(first))


def test_stages_go_up_one_layer_at_a_time() -> None:
    assert stages(3, "progressive") == [(0,), (1,), (2,)]
    assert stages(3, "stacked") == [(0,), (0, 1), (0, 1, 2)]
    assert stages(3, "joint") == []


@pytest.mark.parametrize("active", [(0,), (0, 1)])
def test_layers_above_a_stage_get_no_gradient(tmp_path: Path, active: tuple[int, ...]) -> None:
    teacher, student = toy_model(tmp_path, layers=3), toy_model(tmp_path, layers=3, seed=5)
    run = toy_run(tmp_path, teacher, teacher=teacher)
    batch = next(run.sample_batches(student, 8, batch_size=8))
    pairs = tuple((layer, layer) for layer in active)
    sum(training_loss(teacher_inside(run, (0, 1, 2)), pairs)(student, batch).values()).backward()
    for index, layer in enumerate(student.family.layers(student.network)):
        gradient = layer.ffn_out.weight.grad
        assert (gradient is not None and bool(gradient.any())) == (index in active)


@pytest.mark.parametrize("schedule", ["progressive", "stacked", "joint"])
def test_a_schedule_trains_every_layer_and_ends_with_soft_targets(tmp_path: Path, schedule: str) -> None:
    teacher = toy_model(tmp_path, layers=4)
    run = toy_run(tmp_path, teacher)
    student = compress(teacher, Config(schedule=schedule, layer_epochs=0.5), run)
    before, after = weights(teacher), weights(student)
    for own, origin in ((0, 0), (1, 2)):
        name = "bert.encoder.layer.{}.attention.self.query.weight"
        assert not torch.equal(after[name.format(own)], before[name.format(origin)])
    assert {"soft", "task"} <= run.log[-1].keys()
    assert ("attention" in run.log[-1]) == (schedule == "joint")
    assert run.notes == ["The student keeps layers 0, 2 of its teacher."]


def test_schedules_differ(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path, layers=4)
    found = [
        weights(compress(teacher, Config(schedule=schedule), toy_run(tmp_path, teacher, work=schedule)))
        for schedule in ("progressive", "stacked", "joint")
    ]
    assert not same_weights(found[0], found[1])
    assert not same_weights(found[1], found[2])


def test_the_student_attends_more_like_its_teacher_afterwards(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path, layers=4)
    run = toy_run(tmp_path, teacher, settings={"max_steps": 40, "epochs": 20})
    student = compress(teacher, Config(layer_epochs=20, alpha_hard=0), run)
    plain = teacher.copy()
    from compressbert.model.edits import keep_layers

    keep_layers(plain, [0, 2])
    pairs = [(0, 1), (1, 3)]
    after, before = (
        float(layer_losses(inside(model), inside(teacher, 4), MASK, pairs)["attention"])
        for model in (student, plain)
    )
    assert after < 0.8 * before

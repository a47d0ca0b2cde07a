"""Pre-trained distillation: its steps and their ablations."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressbert.errors import ConfigError
from compressbert.methods.distill import distilbert
from compressbert.methods.distill.pretrained_distillation import Config, compress
from compressbert.model.student import Shape, build_student
from tests.methods.toy import same_weights, toy_model, toy_run, weights


def test_the_transfer_step_is_distillation_on_answers_alone(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    ours = compress(teacher, Config(layers=1, finetune_epochs=0), toy_run(tmp_path, teacher))
    plain = distilbert.Config(layers=1, temperature=1.0, alpha_soft=1.0, alpha_hard=0.0, alpha_cos=0.0)
    run = toy_run(tmp_path, teacher, work="plain")
    start = build_student(teacher, Shape((0,)), init="teacher")
    loss = distilbert.distillation_loss(
        run.with_teacher(teacher), soft="kl", temperature=1.0, alpha_soft=1.0, alpha_hard=0.0, alpha_cos=0.0
    )
    run.fit(start, loss, stage="transfer", depends_on=plain)
    assert same_weights(weights(ours), weights(start))


def test_labels_come_after_the_answers_or_not_at_all(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    run = toy_run(tmp_path, teacher)
    compress(teacher, Config(layers=1, finetune_epochs=0), run)
    assert all("task" not in entry for entry in run.log)
    run = toy_run(tmp_path, teacher, work="labels")
    compress(teacher, Config(layers=1), run)
    assert ["soft" in entry for entry in run.log] == sorted(
        ("soft" in entry for entry in run.log), reverse=True
    )
    assert "task" in run.log[-1]


def test_the_student_may_be_a_pretrained_model(tmp_path: Path) -> None:
    teacher, student = toy_model(tmp_path), toy_model(tmp_path, seed=4, layers=1)
    before = weights(student)
    run = toy_run(tmp_path, teacher, student=student)
    found = compress(teacher, Config(), run)
    assert run.notes == ["The student starts from a model of 1 layers."]
    assert same_weights(weights(student), before)
    assert not same_weights(weights(found), before)
    with pytest.raises(ConfigError, match="layers is set too"):
        compress(teacher, Config(layers=1), toy_run(tmp_path, teacher, student=student, work="both"))

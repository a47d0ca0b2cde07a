"""MiniLM: relations of the last layer, which parts learn from them, and the assistant."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compressbert.errors import ConfigError
from compressbert.methods.distill.minilm import (
    Config,
    compress,
    relation_heads,
    relation_loss,
    training_loss,
    wants_assistant,
)
from compressbert.methods.teacher_inside import teacher_inside
from compressbert.model.handle import Model
from compressbert.model.inside import Inside, look_inside
from compressbert.model.student import Shape, build_student
from compressbert.nn.transfer import attention_kl
from tests.methods.toy import same_weights, toy_model, toy_run, weights
from tests.tiny import padded_batch

VERSIONS = pytest.mark.parametrize("version", ["v1", "v2"])


def inside(model: Model, layer: int = 1) -> Inside:
    return look_inside(model, padded_batch(), layers=(layer,))


def parts(student: Model, teacher: Model, version: str, heads: int = 4) -> dict[str, float]:
    with torch.no_grad():
        found = relation_loss(
            inside(student),
            inside(teacher),
            padded_batch()["attention_mask"],
            layer=1,
            version=version,
            heads=heads,
        )
    return {name: float(value) for name, value in found.items()}


@VERSIONS
def test_a_student_equal_to_its_teacher_has_nothing_to_learn(tmp_path: Path, version: str) -> None:
    teacher = toy_model(tmp_path)
    assert all(value == pytest.approx(0, abs=1e-6) for value in parts(teacher, teacher, version).values())
    other = toy_model(tmp_path, seed=5)
    assert all(value > 1e-3 for value in parts(other, teacher, version).values())


@VERSIONS
def test_all_but_what_feeds_the_last_relations_gets_no_gradient(tmp_path: Path, version: str) -> None:
    teacher, student = toy_model(tmp_path), toy_model(tmp_path, seed=5)
    run = toy_run(tmp_path, teacher, teacher=teacher)
    batch = next(run.sample_batches(student, 8, batch_size=8))
    loss = training_loss(teacher_inside(run, (1,)), layer=1, version=version, heads=4)
    sum(loss(student, batch).values()).backward()
    last = student.family.layers(student.network)[1]
    for module in (last.attention_out, last.attention_norm, last.ffn_in, last.ffn_out, last.ffn_norm):
        assert all(parameter.grad is None for parameter in module.parameters())
    for module in (last.query, last.key, last.value, student.family.embeddings(student.network).word):
        assert module.weight.grad.abs().sum() > 0


def test_permuting_relation_heads_alike_on_both_sides_changes_nothing(tmp_path: Path) -> None:
    teacher, student = toy_model(tmp_path), toy_model(tmp_path, seed=5)
    before = parts(student, teacher, "v2")
    order = torch.cat([torch.arange(head * 8, head * 8 + 8) for head in (2, 0, 3, 1)])
    for model in (teacher, student):
        last = model.family.layers(model.network)[1]
        for module in (last.query, last.key, last.value):
            with torch.no_grad():
                module.weight.copy_(module.weight[order])
                module.bias.copy_(module.bias[order])
    assert parts(student, teacher, "v2") == pytest.approx(before, rel=1e-4)


def test_version_1_compares_attention_and_values(tmp_path: Path) -> None:
    teacher, student = toy_model(tmp_path), toy_model(tmp_path, seed=5)
    with torch.no_grad():
        expected = attention_kl(
            inside(student).scores(1), inside(teacher).scores(1), padded_batch()["attention_mask"]
        )
    found = parts(student, teacher, "v1")
    assert found["attention"] == pytest.approx(float(expected))
    assert set(found) == {"attention", "values"}


def test_a_narrow_student_learns_relations_of_any_width(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    run = toy_run(
        tmp_path, teacher, rows=256, settings={"max_steps": 80, "epochs": 20, "learning_rate": 3e-3}
    )
    config = Config(layers=2, hidden=16, heads=2, ffn=32, relation_heads=4, task_epochs=0)
    compress(teacher, config, run)
    losses = [sum(entry[name] for name in ("queries", "keys", "values")) for entry in run.log]
    assert losses[-1] < 0.75 * losses[0]


def test_a_student_of_half_the_size_learns_from_an_assistant(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    shallow = build_student(teacher, Shape((0,)), init="teacher")
    small = build_student(teacher, Shape((0,), hidden=16, ffn=32), init="teacher")
    assert not wants_assistant(teacher, shallow)
    assert wants_assistant(teacher, small)
    config = {"layers": 1, "hidden": 16, "ffn": 32, "task_epochs": 0}
    run = toy_run(tmp_path, teacher)
    helped = compress(teacher, Config(**config), run)
    assert "An assistant of 2 layers learns first." in run.notes
    alone = compress(teacher, Config(**config, assistant=False), toy_run(tmp_path, teacher, work="alone"))
    assert not same_weights(weights(helped), weights(alone))


def test_soft_targets_and_labels_follow_on_data_of_a_task_only(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    run = toy_run(tmp_path, teacher)
    compress(teacher, Config(layers=1, task_epochs=1), run)
    assert {"queries", "keys", "values"} <= run.log[0].keys()
    assert {"soft", "task"} <= run.log[-1].keys()
    run = toy_run(tmp_path, teacher, work="soft")
    compress(teacher, Config(layers=1, task_epochs=1, alpha_hard=0), run)
    assert "soft" in run.log[-1]
    assert "task" not in run.log[-1]
    raw = toy_model(tmp_path, head="masked-lm")
    run = toy_run(tmp_path, raw, task="masked-lm", work="raw")
    compress(raw, Config(layers=1), run)
    assert "soft" not in run.log[-1]


def test_impossible_settings(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    with pytest.raises(ConfigError, match="no layer 7"):
        compress(teacher, Config(teacher_layer=7), toy_run(tmp_path, teacher))
    with pytest.raises(ConfigError, match=r"2 heads, layer 1 of its teacher 4"):
        compress(teacher, Config(version="v1", layers=1, hidden=16, heads=2), toy_run(tmp_path, teacher))
    with pytest.raises(ConfigError, match="relation_heads: 5 must divide"):
        relation_heads(teacher, teacher, 1, 5)

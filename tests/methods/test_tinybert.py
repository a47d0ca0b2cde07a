"""TinyBERT: intermediate and prediction losses, the map between widths, and the stages."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compressbert.errors import ConfigError
from compressbert.methods.distill.tinybert import (
    Config,
    compress,
    intermediate_losses,
    leading_identity,
    projections,
)
from compressbert.model.handle import Model
from compressbert.model.inside import Inside, look_inside
from compressbert.model.student import Shape, build_student
from compressbert.nn.transfer import hidden_mse, score_mse
from tests.methods.toy import toy_model, toy_run, weights
from tests.tiny import padded_batch

MASK = padded_batch()["attention_mask"]


def inside(model: Model) -> Inside:
    layers = tuple(range(len(model.family.layers(model.network))))
    with torch.no_grad():
        return look_inside(model, padded_batch(), layers=layers)


def test_a_student_equal_to_its_teacher_has_nothing_to_learn(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    maps = projections(teacher, teacher, "shared")
    found = intermediate_losses(inside(teacher), inside(teacher), MASK, (0, 1), maps)
    assert {name: float(value.detach()) for name, value in found.items()} == {"scores": 0.0, "states": 0.0}


def test_losses_are_sums_over_the_matched_layers_and_the_embeddings(tmp_path: Path) -> None:
    teacher, student = inside(toy_model(tmp_path, layers=4)), inside(toy_model(tmp_path, seed=5))
    maps = projections(toy_model(tmp_path), toy_model(tmp_path), "shared")
    found = intermediate_losses(student, teacher, MASK, (1, 3), maps)
    scores = sum(
        score_mse(student.scores(own), teacher.scores(other), MASK) for own, other in ((0, 1), (1, 3))
    )
    states = sum(hidden_mse(student.hidden[a], teacher.hidden[b], MASK) for a, b in ((0, 0), (1, 2), (2, 4)))
    assert float(found["scores"]) == pytest.approx(float(scores))
    assert float(found["states"].detach()) == pytest.approx(float(states), rel=1e-5)


def test_the_map_starts_by_copying_features() -> None:
    states = torch.randn(2, 3, 4)
    mapped = leading_identity(4, 6)(states)
    assert torch.equal(mapped[..., :4], states)
    assert not mapped[..., 4:].any()


def test_one_map_or_two(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    shared, separate = (projections(teacher, teacher, kind) for kind in ("shared", "separate"))
    assert shared["layers"] is shared["embeddings"]
    assert separate["layers"] is not separate["embeddings"]


def test_a_narrow_student_comes_closer_inside_and_in_its_answers(tmp_path: Path, learned: Model) -> None:
    shape = {"layers": 1, "hidden": 16, "ffn": 32}
    run = toy_run(
        tmp_path, learned, rows=256, settings={"max_steps": 160, "epochs": 20, "learning_rate": 3e-3}
    )
    student = compress(learned, Config(**shape, intermediate_epochs=10, intermediate_learning_rate=3e-3), run)
    inputs = next(run.sample_batches(learned, 64, batch_size=64)).inputs
    with torch.no_grad():
        agreed = (student(**inputs).logits.argmax(-1) == learned(**inputs).logits.argmax(-1)).float().mean()
    assert agreed > 0.85
    logged = [entry["scores"] for entry in run.log if "scores" in entry]
    assert logged[-1] < logged[0]
    assert "soft" in run.log[-1]


def test_labels_are_not_read_unless_they_are_weighted(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    run = toy_run(tmp_path, teacher)
    compress(teacher, Config(layers=1, intermediate_epochs=0), run)
    assert "task" not in run.log[-1]
    run = toy_run(tmp_path, teacher, work="hard")
    compress(teacher, Config(layers=1, intermediate_epochs=0, alpha_hard=1.0), run)
    assert "task" in run.log[-1]


def test_raw_text_gets_the_general_stage_alone(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path, head="masked-lm")
    run = toy_run(tmp_path, teacher, task="masked-lm")
    student = compress(teacher, Config(layers=1, hidden=16, ffn=32, init="random"), run)
    assert set(run.log[-1]) >= {"scores", "states"}
    assert "soft" not in run.log[-1]
    head = "cls.predictions.transform.dense.weight"
    untouched = build_student(teacher, Shape((0,), 16, None, 32), init="random", seed=run.seed)
    assert torch.allclose(weights(student)[head], weights(untouched)[head], atol=1e-3)  # but for weight decay


def test_other_head_counts_are_refused(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    with pytest.raises(ConfigError, match="2 heads, layer 1 of its teacher 4"):
        compress(teacher, Config(layers=1, hidden=16, heads=2), toy_run(tmp_path, teacher))

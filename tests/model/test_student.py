"""Students: their shapes, where their weights come from, and that stock transformers has the same shape."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compressbert.errors import ConfigError
from compressbert.model.checkpoint import load, save
from compressbert.model.count import facts
from compressbert.model.edits import keep_heads
from compressbert.model.handle import Model
from compressbert.model.inside import look_inside
from compressbert.model.student import Shape, build_student
from tests.methods.toy import logits, toy_model
from tests.tiny import FAMILIES, WITH_VECTORS, padded_batch


@pytest.mark.parametrize("family", FAMILIES)
def test_the_teachers_shape_from_the_teacher_is_the_teacher(tmp_path: Path, family: str) -> None:
    teacher = toy_model(tmp_path, family)
    student = build_student(teacher, Shape(layers=(0, 1)), init="teacher")
    batch = padded_batch(family)
    assert torch.equal(logits(student, batch), logits(teacher, batch))
    assert student.network is not teacher.network


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("init", ["teacher", "random"])
def test_a_narrow_student_is_a_stock_model_of_its_shape(tmp_path: Path, family: str, init: str) -> None:
    teacher = toy_model(tmp_path, family, layers=3)
    student = build_student(teacher, Shape((0, 2), hidden=16, heads=2, ffn=24), init=init)
    found = facts(student)
    assert (found.layers, found.hidden, found.heads_per_layer, found.ffn_per_layer) == (
        2, 16, (2, 2), (24, 24),
    )  # fmt: skip
    save(student, tmp_path / "saved")
    assert not (tmp_path / "saved" / "modeling_compressbert.py").exists()
    batch = padded_batch(family)
    assert torch.equal(logits(load(tmp_path / "saved"), batch), logits(student, batch))
    assert student.network.config.id2label == teacher.network.config.id2label


def test_a_cut_takes_the_leading_features_of_every_head(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path, layers=3)  # 4 heads of 8
    student = build_student(teacher, Shape((2,), hidden=16, heads=4, ffn=24), init="teacher")  # 4 heads of 4
    own, theirs = student.network.state_dict(), teacher.network.state_dict()
    kept = [head * 8 + feature for head in range(4) for feature in range(4)]
    name = "bert.encoder.layer.{}.attention.{}.weight"
    assert torch.equal(own[name.format(0, "self.value")], theirs[name.format(2, "self.value")][kept][:, :16])
    assert torch.equal(
        own[name.format(0, "output.dense")], theirs[name.format(2, "output.dense")][:16][:, kept]
    )
    assert torch.equal(
        own["bert.encoder.layer.0.intermediate.dense.weight"],
        theirs["bert.encoder.layer.2.intermediate.dense.weight"][:24, :16],
    )
    words = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(own[words], theirs[words][:, :16])


def test_random_students_follow_their_seed_and_leave_the_generator_alone(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    shape = Shape((0,), hidden=16)
    state = torch.get_rng_state()
    one, same, other = (build_student(teacher, shape, init="random", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    words = [model.network.get_input_embeddings().weight for model in (one, same, other)]
    assert torch.equal(words[0], words[1])
    assert not torch.equal(words[0], words[2])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (Shape((0, 5)), "layers 0 to 1"),
        (Shape(()), "layers 0 to 1"),
        (Shape((0,), hidden=18), "no multiple of 4 heads"),
        (Shape((0,), hidden=64), "hidden: 64 is more than the teacher's 32"),
        (Shape((0,), ffn=128), "ffn: 128 is more than the teacher's 64"),
        (Shape((0,), heads=2, hidden=32), "head size: 16 is more than the teacher's 8"),
    ],
)
def test_impossible_shapes(tmp_path: Path, shape: Shape, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_student(toy_model(tmp_path), shape, init="teacher")


def test_a_wider_student_may_start_at_random(tmp_path: Path) -> None:
    student = build_student(toy_model(tmp_path), Shape((0,), hidden=64, ffn=128), init="random")
    assert facts(student).hidden == 64


def test_an_uneven_teacher_is_refused(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    keep_heads(teacher, {0: [0]})
    with pytest.raises(ConfigError, match="uneven"):
        build_student(teacher, Shape((0,), ffn=32), init="teacher")


@pytest.mark.parametrize("family", WITH_VECTORS)
def test_scores_seen_inside_give_the_attention_that_transformers_computes(
    tmp_path: Path, family: str
) -> None:
    model: Model = toy_model(tmp_path, family)
    batch = padded_batch(family)
    model.network.set_attn_implementation("eager")
    with torch.no_grad():
        seen = look_inside(model, batch, layers=(0, 1))
        stock = model(**batch, output_attentions=True, output_hidden_states=True)
    hidden = ~batch["attention_mask"].bool()[:, None, None, :]
    for layer, expected in enumerate(stock.attentions):
        weights = seen.scores(layer).masked_fill(hidden, -torch.inf).softmax(-1)
        torch.testing.assert_close(weights, expected)
    for ours, theirs in zip(seen.hidden, stock.hidden_states, strict=True):
        assert torch.equal(ours, theirs)
    assert not any(
        module._forward_hooks
        for layer in model.family.layers(model.network)
        for module in (layer.query, layer.key)
    )

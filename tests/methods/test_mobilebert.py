"""MobileBERT: losses of a layer, which weights a phase reaches, the teacher between, and padding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compressbert.errors import ConfigError
from compressbert.methods.distill.mobilebert import (
    BELOW,
    IN_TURN,
    Config,
    compress,
    layer_losses,
    phase_loss,
    rate_of,
    shape_of,
)
from compressbert.methods.teacher_inside import teacher_inside
from compressbert.model.handle import Model
from compressbert.model.inside import Inside, first_layers, look_inside
from compressbert.model.mobilebert import build_inverted, build_thin
from compressbert.nn.transfer import feature_map_losses
from tests.methods.toy import logits, same_weights, toy_model, toy_run, weights
from tests.tiny import padded_batch

MASK = padded_batch()["attention_mask"]


def inside(model: Model) -> Inside:
    layers = tuple(range(len(model.family.layers(model.network))))
    with torch.no_grad():
        return look_inside(model, padded_batch(), layers=layers)


def student_of(teacher: Model, **settings: object) -> Model:
    student = build_thin(teacher, shape_of(teacher, Config.model_validate(settings)), seed=3)
    student.network.requires_grad_(True)
    return student


def test_sizes_follow_the_teacher_in_the_papers_proportions(tmp_path: Path) -> None:
    shape = shape_of(toy_model(tmp_path), Config())
    assert (shape.layers, shape.hidden, shape.heads) == (2, 32, 4)
    assert (shape.inner, shape.ffn, shape.feed_forwards, shape.embedding) == (8, 32, 4, 8)
    published = {"layers": 24, "hidden": 512, "heads": 4}
    shape = shape_of(toy_model(tmp_path), Config(**published))
    assert (shape.inner, shape.ffn, shape.embedding) == (128, 512, 128)


def test_a_layer_equal_to_its_teacher_has_nothing_to_learn(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    found = layer_losses(inside(teacher), inside(teacher), MASK, own=1, other=1, config=Config())
    assert set(found) == {"features", "mean", "variance", "attention"}
    assert all(float(value) == pytest.approx(0, abs=1e-6) for value in found.values())


def test_mean_and_variance_are_those_of_the_layer_in_turn_alone(tmp_path: Path) -> None:
    """The published code takes them over all of the teacher's layers at once."""
    teacher, student = inside(toy_model(tmp_path, layers=3)), inside(toy_model(tmp_path, seed=5))
    found = layer_losses(student, teacher, MASK, own=0, other=1, config=Config())
    ours, theirs = student.hidden[1][MASK.bool()], teacher.hidden[2][MASK.bool()]
    mean = (ours.mean(-1) - theirs.mean(-1)).square().mean()
    variance = (ours.var(-1, correction=0) - theirs.var(-1, correction=0)).abs().mean()
    assert float(found["mean"]) == pytest.approx(5000 * float(mean))
    assert float(found["variance"]) == pytest.approx(5 * float(variance))
    others = Inside(
        teacher.output,
        tuple(states if index == 2 else states + 7 for index, states in enumerate(teacher.hidden)),
        teacher.vectors,
        teacher.heads,
        teacher.scaling,
    )
    again = layer_losses(student, others, MASK, own=0, other=1, config=Config())
    assert {name: float(value) for name, value in again.items()} == {
        name: float(value) for name, value in found.items()
    }


def test_feature_maps_by_hand() -> None:
    student = torch.tensor([[[1.0, 3.0], [2.0, 2.5], [9.0, -9.0]]])
    teacher = torch.tensor([[[3.0, 1.0], [0.0, 4.0], [5.0, 5.0]]])
    found = feature_map_losses(student, teacher, torch.tensor([[1, 1, 0]]))
    # Two features normalise to −1 and 1: the first token's differ by 2 in both, the second's not.
    assert float(found["features"]) == pytest.approx((4 + 4 + 0 + 0) / 4, rel=1e-3)
    assert float(found["mean"]) == pytest.approx((0**2 + 0.25**2) / 2)
    assert float(found["variance"]) == pytest.approx((abs(1 - 1) + abs(0.0625 - 4)) / 2)


def test_a_phase_reaches_its_layer_and_what_that_reads_alone(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path, layers=3)
    student = student_of(teacher)
    run = toy_run(tmp_path, teacher, teacher=teacher)
    batch = next(run.sample_batches(student, 8, batch_size=8))
    with first_layers(student, 2) as lower:
        loss = phase_loss(teacher_inside(run, (1,)), 1, 1, 3, Config())
        sum(loss(lower, batch).values()).backward()
    blocks = student.family.blocks(student.network)
    assert len(blocks) == 3
    reached = [any(p.grad is not None and p.grad.any() for p in block.parameters()) for block in blocks]
    assert reached == [True, True, False]
    assert all(p.grad is None for p in blocks[2].parameters())
    assert student.family.embeddings(student.network).word.weight.grad.any()
    heads = student.family.head_modules(student.network).values()
    assert all(p.grad is None for module in heads for p in module.parameters())


def test_rates_of_a_phase(tmp_path: Path) -> None:
    student = student_of(toy_model(tmp_path, layers=12))
    in_layer = rate_of(student, 1)
    assert in_layer("encoder.layer.1.output.dense.weight") == IN_TURN == 3.0
    assert in_layer("encoder.layer.0.output.dense.weight") == BELOW == 0.3
    assert in_layer("encoder.layer.11.output.dense.weight") == BELOW
    assert in_layer("embeddings.word_embeddings.weight") == BELOW
    assert rate_of(student, -1)("embeddings.word_embeddings.weight") == IN_TURN


def test_each_part_of_a_phase_is_divided_by_the_number_of_layers(tmp_path: Path) -> None:
    teacher, student = toy_model(tmp_path), toy_model(tmp_path, seed=5)
    run = toy_run(tmp_path, teacher, teacher=teacher)
    batch = next(run.sample_batches(student, 8, batch_size=8))
    with torch.no_grad():
        once, shared = (
            phase_loss(teacher_inside(run, (0,)), 0, 0, depth, Config())(student, batch) for depth in (1, 4)
        )
    assert {name: float(part) / 4 for name, part in once.items()} == pytest.approx(
        {name: float(part) for name, part in shared.items()}
    )


def test_layers_come_closer_one_after_the_other(tmp_path: Path, learned: Model) -> None:
    """And the answers follow: a thin student of random layers agrees with its teacher."""
    run = toy_run(
        tmp_path, learned, rows=256, settings={"max_steps": 150, "epochs": 20, "learning_rate": 3e-3}
    )
    config = Config(phase_epochs=10, phase_learning_rate=1e-3, norm="layer_norm")
    student = compress(learned, config, run)
    phases = [entry for entry in run.log if "features" in entry]
    starts = [
        index for index, entry in enumerate(phases) if index and entry["step"] < phases[index - 1]["step"]
    ]
    assert len(starts) == 2  # the embeddings, then two layers
    for start, end in zip([0, *starts], [*starts, len(phases)], strict=True):
        assert phases[end - 1]["loss"] < phases[start]["loss"]
    inputs = next(run.sample_batches(learned, 64, batch_size=64)).inputs
    agreed = (logits(student, inputs).argmax(-1) == logits(learned, inputs).argmax(-1)).float().mean()
    assert agreed > 0.9


def test_a_teacher_of_another_width_teaches_through_an_inverted_one(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    run = toy_run(tmp_path, teacher)
    student = compress(teacher, Config(hidden=16, heads=2), run)
    assert run.notes[0].startswith("An inverted-bottleneck teacher comes between: 2 layers, 16 wide")
    assert student.width == 16
    assert same_weights(weights(teacher), weights(toy_model(tmp_path)))
    direct = toy_run(tmp_path, teacher, work="direct")
    compress(teacher, Config(), direct)
    assert not any("inverted" in note for note in direct.notes)


def test_an_inverted_teacher_can_be_the_users_own(tmp_path: Path) -> None:
    wide = build_inverted(toy_model(tmp_path), hidden=16, heads=2, embedding=8, seed=0)
    run = toy_run(tmp_path, wide)
    student = compress(wide, Config(phase_epochs=0), run)
    assert (student.width, student.family.layers(student.network)[0].heads) == (16, 2)
    assert not any("inverted" in note for note in run.notes)


def test_padding_does_not_reach_the_last_word_through_its_trigram(tmp_path: Path) -> None:
    """A teacher's padding row may be anything; a word beside padding must look like a word at the end."""
    teacher = toy_model(tmp_path)
    with torch.no_grad():
        teacher.family.embeddings(teacher.network).word.weight[0] = 5.0
    student = compress(teacher, Config(), toy_run(tmp_path, teacher))
    batch = padded_batch(lengths=(9, 5))
    short = {name: tensor[1:, :5] for name, tensor in batch.items()}
    torch.testing.assert_close(logits(student, batch)[1:], logits(student, short))


def test_answers_are_shared_between_teacher_and_labels(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    found = {}
    for alpha in (0.0, 0.25, 1.0):
        settings = {"max_steps": 1}
        run = toy_run(tmp_path, teacher, work=f"share{alpha}", settings=settings)
        compress(teacher, Config(phase_epochs=0, alpha=alpha), run)
        found[alpha] = run.log[-1]
    assert "task" not in found[1.0]  # labels are not read
    assert found[0.25]["task"] == pytest.approx(0.75 * found[0.0]["task"])
    assert found[0.25]["soft"] == pytest.approx(0.25 * found[1.0]["soft"])


def test_impossible_settings(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    with pytest.raises(ConfigError, match="inner: 10 is no multiple of 4 heads"):
        compress(teacher, Config(inner=10), toy_run(tmp_path, teacher))
    with pytest.raises(ConfigError, match="hidden: 64, heads: 4 do not fit"):
        compress(teacher, Config(hidden=64), toy_run(tmp_path, teacher))
    with pytest.raises(ConfigError, match="has 3 layers, its teacher 2"):
        compress(teacher, Config(layers=3), toy_run(tmp_path, teacher))
    with pytest.raises(ConfigError, match="builds its student itself"):
        compress(teacher, Config(), toy_run(tmp_path, teacher, student=toy_model(tmp_path)))

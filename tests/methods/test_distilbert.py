"""DistilBERT: which layers, which losses, and that the student learns what its teacher knows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from compressbert.errors import ConfigError
from compressbert.methods.distill import distilbert
from compressbert.methods.distill.distilbert import Config, compress, distillation_loss
from compressbert.methods.knowledge import forward
from compressbert.model.edits import keep_layers
from compressbert.model.handle import Model
from compressbert.nn.losses import hidden_cosine, logit_mse, soft_binary_loss, soft_label_loss
from tests.methods.toy import logits, same_weights, toy_model, toy_run, weights
from tests.tiny import padded_batch


def _first_batch(run, model: Model):
    return next(run.sample_batches(model, 16, batch_size=16))


def _parts(run, student: Model, **options: object) -> dict[str, float]:
    settings = {
        "soft": "kl",
        "temperature": 2.0,
        "alpha_soft": 5.0,
        "alpha_hard": 2.0,
        "alpha_cos": 1.0,
        **options,
    }
    run.train = run.sample(16)
    loss = distillation_loss(run, **settings)
    batch = _first_batch(run, student)
    return {name: float(part.detach()) for name, part in loss(student, batch).items()}


@pytest.mark.parametrize("task", ["sequence-classification", "multi-label", "regression", "masked-lm"])
def test_a_student_equal_to_its_teacher_has_nothing_to_learn_from_it(tmp_path: Path, task: str) -> None:
    head = "masked-lm" if task == "masked-lm" else "classification"
    model = toy_model(tmp_path, head=head, labels=1 if task == "regression" else 2)
    run = toy_run(tmp_path, model, task=task, teacher=model.copy())
    parts = _parts(run, model)
    assert parts["soft"] == pytest.approx(0, abs=1e-5)
    assert parts["cosine"] == pytest.approx(0, abs=1e-5)  # the cache keeps states in half precision
    assert parts["task"] > 0.01


def test_parts_are_the_papers_weighted_losses(tmp_path: Path) -> None:
    teacher, student = toy_model(tmp_path), toy_model(tmp_path, seed=5)
    run = toy_run(tmp_path, teacher, teacher=teacher)
    parts = _parts(run, student)
    batch = _first_batch(run, student)
    with torch.no_grad():
        student_logits, seen = forward(student, batch, task=run.task, hidden=True)
        _, taught = forward(teacher, batch, task=run.task, hidden=True)
    assert parts["soft"] == pytest.approx(
        5 * soft_label_loss(student_logits, taught.logits, 2.0).item(), rel=1e-4
    )
    assert parts["task"] == pytest.approx(2 * run.task.loss(student_logits, batch.labels).item(), rel=1e-4)
    assert parts["cosine"] == pytest.approx(hidden_cosine(seen.hidden, taught.hidden).item(), rel=1e-2)
    assert seen.hidden.shape == (16, 32)
    mse = _parts(run, student, soft="mse", alpha_hard=0.0, alpha_cos=0.0)
    assert mse == {"soft": pytest.approx(5 * logit_mse(student_logits, taught.logits).item(), rel=1e-4)}


def test_multi_label_targets_are_independent_probabilities(tmp_path: Path) -> None:
    teacher, student = toy_model(tmp_path), toy_model(tmp_path, seed=5)
    run = toy_run(tmp_path, teacher, task="multi-label", teacher=teacher)
    parts = _parts(run, student, alpha_cos=0.0)
    inputs = _first_batch(run, student).inputs
    expected = 5 * soft_binary_loss(logits(student, inputs), logits(teacher, inputs), 2.0)
    assert parts["soft"] == pytest.approx(expected.item(), rel=1e-4)


def test_on_raw_text_every_token_but_padding_is_a_row(tmp_path: Path) -> None:
    model = toy_model(tmp_path, head="masked-lm")
    run = toy_run(tmp_path, model, task="masked-lm")
    batch = _first_batch(run, model)
    real = batch.inputs["attention_mask"].bool()
    assert int((~real).sum()) > 0
    token_logits, signals = forward(model, batch, task=run.task, hidden=True)
    assert signals.logits.shape == (int(real.sum()), token_logits.shape[-1])
    assert signals.hidden.shape == (int(real.sum()), 32)
    padded = (
        torch.nn.functional.pad(batch.inputs["input_ids"], (0, 3)),
        torch.nn.functional.pad(real.long(), (0, 3)),
    )
    types = torch.nn.functional.pad(batch.inputs["token_type_ids"], (0, 3))
    batch.inputs = {"input_ids": padded[0], "attention_mask": padded[1], "token_type_ids": types}
    torch.testing.assert_close(forward(model, batch, task=run.task, hidden=True)[1].logits, signals.logits)


def test_default_student_has_the_papers_layers_and_the_teachers_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = toy_model(tmp_path, layers=12)
    run = toy_run(tmp_path, model)
    before: list[dict[str, Tensor]] = []
    monkeypatch.setattr(type(run), "fit", lambda self, student, loss, **_: before.append(weights(student)))
    student = compress(model, Config(), run)
    kept = [0, 2, 4, 7, 9, 11]
    assert [edit.to_json() for edit in student.edits] == [
        {"op": "keep_layers", "arguments": {"layers": kept}}
    ]
    source = weights(model)
    for new, old in enumerate(kept):
        name = "bert.encoder.layer.{}.output.dense.weight"
        assert torch.equal(before[0][name.format(new)], source[name.format(old)])
    assert torch.equal(before[0]["classifier.weight"], source["classifier.weight"])
    assert run.notes == ["The student keeps layers 0, 2, 4, 7, 9, 11 of its teacher."]


def test_a_student_agrees_with_its_teacher_more_after_distillation(tmp_path: Path, learned: Model) -> None:
    run = toy_run(tmp_path, learned, rows=256, settings={"max_steps": 60, "epochs": 20})
    student = compress(learned, Config(layers=1), run)
    untrained = learned.copy()
    keep_layers(untrained, [0])
    inputs = next(run.sample_batches(learned, 64, batch_size=64)).inputs
    teacher = logits(learned, inputs)
    after, before = (soft_label_loss(logits(m, inputs), teacher).item() for m in (student, untrained))
    assert after < 0.5 * before
    assert (logits(student, inputs).argmax(-1) == teacher.argmax(-1)).float().mean() > 0.9


def test_position_embeddings_are_frozen_on_raw_text_only(tmp_path: Path) -> None:
    name = "bert.embeddings.position_embeddings.weight"
    for task, head, frozen in (
        ("masked-lm", "masked-lm", True),
        ("sequence-classification", "classification", False),
    ):
        model = toy_model(tmp_path, head=head)
        student = compress(model, Config(), toy_run(tmp_path, model, task=task, work=task))
        assert torch.equal(weights(student)[name], weights(model)[name]) == frozen
        assert not torch.equal(
            weights(student)["bert.embeddings.word_embeddings.weight"],
            weights(model)["bert.embeddings.word_embeddings.weight"],
        )
        assert all(parameter.requires_grad for parameter in student.network.parameters())


def test_rare_words_are_masked_more_often(tmp_path: Path) -> None:
    model = toy_model(tmp_path, head="masked-lm")
    encoded = toy_run(tmp_path, model, task="masked-lm").train
    weighted = distilbert.favour_rare_words(encoded, 0.7).masking.weights
    counts = torch.bincount(torch.from_numpy(encoded.ids.astype("int64")), minlength=len(weighted))
    words = [i for i in range(len(counts)) if counts[i] > 0 and i not in encoded.masking.special_ids]
    rare, common = min(words, key=lambda i: counts[i]), max(words, key=lambda i: counts[i])
    assert (weighted[rare] / weighted[common]).item() == pytest.approx(
        (counts[common] / counts[rare]).item() ** 0.7
    )
    assert distilbert.favour_rare_words(encoded, 0.0) is encoded


def test_another_teacher_than_the_origin_of_the_student(tmp_path: Path) -> None:
    model, other = toy_model(tmp_path), toy_model(tmp_path / "other", layers=3, seed=9)
    run = toy_run(tmp_path, model, teacher=other)
    student = compress(model, Config(layers=1), run)
    alone = compress(model, Config(layers=1), toy_run(tmp_path, model, work="alone"))
    assert not same_weights(weights(student), weights(alone))


def test_a_teacher_of_another_width_needs_alpha_cos_0(tmp_path: Path) -> None:
    model, wide = toy_model(tmp_path), toy_model(tmp_path / "wide", hidden=64)
    with pytest.raises(ConfigError, match="64 wide"):
        compress(model, Config(layers=1), toy_run(tmp_path, model, teacher=wide))
    student = compress(
        model, Config(layers=1, alpha_cos=0.0), toy_run(tmp_path, model, teacher=wide, work="second")
    )
    assert torch.isfinite(logits(student, padded_batch())).all()


def test_impossible_settings(tmp_path: Path) -> None:
    model = toy_model(tmp_path)
    with pytest.raises(ConfigError, match="9 of 2"):
        compress(model, Config(layers=9), toy_run(tmp_path, model))
    with pytest.raises(ValidationError, match="nothing would be learned"):
        Config(alpha_soft=0, alpha_hard=0, alpha_cos=0)


def test_other_settings_in_the_same_work_folder_train_anew(tmp_path: Path) -> None:
    model = toy_model(tmp_path)
    one = compress(model, Config(layers=1), toy_run(tmp_path, model))
    again = compress(model, Config(layers=1), toy_run(tmp_path, model))
    other = compress(model, Config(layers=1, temperature=8.0), toy_run(tmp_path, model))
    assert same_weights(weights(one), weights(again))
    assert not same_weights(weights(one), weights(other))

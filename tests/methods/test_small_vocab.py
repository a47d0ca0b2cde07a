"""Small vocabulary: both variants, what they reduce to, and a student that cuts texts in its own way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from compressbert.data.batches import Batch, collate
from compressbert.data.mixed import Mixer
from compressbert.data.own_vocabulary import small_tokenizer
from compressbert.errors import ConfigError
from compressbert.methods.base import Run
from compressbert.methods.distill import minilm, pretrained_distillation
from compressbert.methods.distill.small_vocab import Config, compress
from compressbert.methods.knowledge import teacher_signals
from compressbert.model.checkpoint import load, save
from compressbert.model.handle import Model
from compressbert.model.pooling import Pooling
from compressbert.model.student import Shape, build_student
from compressbert.model.vocabulary import add_vocabulary
from compressbert.model.weight_pairs import weight_pairs
from compressbert.nn.shared_projection import SharedProjections
from compressbert.train.predict import score
from tests.methods.toy import logits, same_weights, toy_model, toy_run, trained, weights
from tests.tiny import padded_batch

VARIANTS = pytest.mark.parametrize("variant", ["v1", "v2"])
SMALL = {"vocabulary": 60, "layers": 1, "hidden": 16, "ffn": 32}


def small_pieces(folder: Path, model: Model, task: str = "sequence-classification", size: int = 60):
    """A small tokenizer for a toy task's texts."""
    origin = toy_run(folder, model, task=task).training_data.origin
    return small_tokenizer(model.tokenizer, origin.split, size=size)


def batch_of(run: Run, examples: list[int]) -> Batch:
    return collate(run.training_data, np.array(examples), pad_id=0)


def test_without_mixing_the_teacher_trains_on_its_own_rows_as_ever(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path, head="masked-lm")
    pieces = small_pieces(tmp_path, teacher, "masked-lm")
    run = toy_run(tmp_path, teacher, task="masked-lm").for_tokenizer(pieces)
    joint = teacher.copy()
    add_vocabulary(joint, pieces)
    torch.manual_seed(0)
    mixed = Mixer(teacher.tokenizer, pieces, 0.0, 64).batch(run.teacher_rows, np.arange(16))
    rows = batch_of(replace(run, train=run.teacher_rows), list(range(16)))
    unmasked = torch.where(mixed.labels == -100, mixed.inputs["input_ids"], mixed.labels)
    original = torch.where(rows.labels == -100, rows.inputs["input_ids"], rows.labels)
    assert torch.equal(unmasked, original)
    before, after = (model(**rows.inputs).logits.detach() for model in (teacher, joint))
    assert torch.allclose(after[..., : len(teacher.tokenizer)], before, atol=1e-6)


def test_a_cut_of_the_teacher_is_its_own_projection_but_for_heads(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    student = build_student(teacher, Shape((1,)), init="teacher")
    pairs = weight_pairs(student, teacher, (1,))
    assert float(SharedProjections(pairs, "up")(pairs).detach()) == 0
    other = weight_pairs(student, teacher, (0,))
    assert float(SharedProjections(other, "up")(other).detach()) > 0
    narrow = build_student(teacher, Shape((1,), hidden=16, ffn=32), init="teacher")
    found = weight_pairs(narrow, teacher, (1,))
    hidden_only = [pair for pair in found if "heads" not in pair.axes]
    assert float(SharedProjections(hidden_only, "down")(hidden_only).detach()) == pytest.approx(0, abs=1e-8)
    assert {kind for pair in found for kind in pair.axes} == {None, "hidden", "heads", "neurons"}


@VARIANTS
def test_a_student_learns_with_pieces_of_its_own(variant: str, tmp_path: Path) -> None:
    teacher, run = trained(tmp_path)
    settings = run.settings.model_copy(update={"max_steps": 150, "learning_rate": 3e-3})
    run = replace(run, settings=settings, work=tmp_path / variant, validation=run.train, notes=[], log=[])
    student = compress(teacher, Config(variant=variant, task_epochs=10, **SMALL), run)
    assert len(student.tokenizer) <= 60
    assert student.network.config.vocab_size == len(student.tokenizer)
    rows = run.for_tokenizer(student.tokenizer).training_data
    assert score(student, rows, run.required_task) > 0.9
    names = {name for entry in run.log for name in entry}
    assert {"teacher", "soft", "task"} <= names
    assert ("projection" in names) == (variant == "v1")
    assert (
        run.notes[-1] == f"The student has {len(student.tokenizer)} word pieces of its own, its teacher 35."
    )


@VARIANTS
@pytest.mark.parametrize("head", ["classification", "masked-lm"])
def test_training_in_bfloat16(variant: str, head: str, tmp_path: Path) -> None:
    teacher = toy_model(tmp_path, head=head)
    task = "masked-lm" if head == "masked-lm" else "sequence-classification"
    run = toy_run(tmp_path, teacher, task=task, settings={"precision": "bf16", "max_steps": 1})
    student = compress(teacher, Config(variant=variant, **SMALL), run)
    assert torch.isfinite(logits(student, padded_batch())).all()


def test_projections_pull_weights_together(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    settings = {"max_steps": 60, "epochs": 50, "learning_rate": 3e-3}
    run = toy_run(tmp_path, teacher, settings=settings)
    compress(teacher, Config(**SMALL, init="random", projection_weight=0.1, task_epochs=0), run)
    assert run.log[-1]["projection"] < 0.7 * run.log[0]["projection"]
    free = toy_run(tmp_path, teacher, settings=settings, work="free")
    compress(teacher, Config(**SMALL, init="random", projection_weight=0, task_epochs=0), free)
    assert "projection" not in free.log[-1]


def test_raw_text_ends_with_the_papers_own_stages(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path, head="masked-lm")
    for variant, last in (("v1", "teacher"), ("v2", "task")):
        run = toy_run(tmp_path, teacher, task="masked-lm", work=variant)
        student = compress(teacher, Config(variant=variant, **SMALL), run)
        assert last in run.log[-1]
        assert logits(student, padded_batch()).shape[-1] == len(student.tokenizer)


@VARIANTS
@pytest.mark.parametrize("task", ["token-classification", "question-answering", "sentence-embedding"])
def test_kinds_with_words_windows_and_pairs(variant: str, task: str, tmp_path: Path) -> None:
    head, labels = {"token-classification": ("tokens", 5), "question-answering": ("answers", 2)}.get(
        task, ("none", 2)
    )
    teacher = toy_model(tmp_path, head=head, labels=labels)
    if head == "none":
        teacher.pooling = Pooling("mean", normalize=True)
    run = toy_run(tmp_path, teacher, task=task)
    student = compress(teacher, Config(variant=variant, vocabulary=60, layers=1), run)
    assert score(student, run.for_tokenizer(student.tokenizer).training_data, run.required_task) >= 0
    assert ("soft" in run.log[-1]) == (task != "question-answering")


def test_tags_are_compared_word_by_word(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path, head="tokens", labels=5)
    run = toy_run(tmp_path, teacher, task="token-classification", teacher=teacher)
    same = teacher_signals(run, hidden=False)
    across = run.for_tokenizer(small_pieces(tmp_path, teacher, "token-classification", size=20))
    shortest = np.argsort(run.training_data.lengths, kind="stable")[
        :3
    ].tolist()  # no word of theirs is cut off
    ours, theirs = batch_of(run, shortest), batch_of(across, shortest)
    assert theirs.inputs["input_ids"].shape[1] > ours.inputs["input_ids"].shape[1]
    found = teacher_signals(across, hidden=False)(theirs).logits
    assert torch.allclose(found, same(ours).logits, atol=1e-5)
    with pytest.raises(ConfigError, match="piece by piece"):
        teacher_signals(across, hidden=True)


def test_a_student_of_a_folder_keeps_its_own_pieces_in_other_methods(tmp_path: Path) -> None:
    teacher, run = trained(tmp_path)
    student = compress(teacher, Config(**SMALL, task_epochs=0), replace(run, work=tmp_path / "first"))
    again = replace(run, student=student, work=tmp_path / "second", log=[]).for_tokenizer(student.tokenizer)
    taught = pretrained_distillation.compress(teacher, pretrained_distillation.Config(), again)
    assert len(taught.tokenizer) == len(student.tokenizer)
    assert score(taught, again.training_data, run.required_task) > 0.8
    with pytest.raises(ConfigError, match="other pieces than its teacher"):
        minilm.compress(teacher, minilm.Config(), again)
    third = compress(teacher, Config(task_epochs=0), replace(again, work=tmp_path / "third"))
    assert third.tokenizer.get_vocab() == student.tokenizer.get_vocab()
    with pytest.raises(ConfigError, match="has its teacher's vocabulary"):
        compress(teacher, Config(), replace(run, student=teacher.copy()))


def test_more_layers_than_the_teacher_cannot_be_paired(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    deep = Config(**{**SMALL, "layers": 3}, init="random", task_epochs=0)
    with pytest.raises(ConfigError, match="weights cannot be paired"):
        compress(teacher, deep, toy_run(tmp_path, teacher))
    free = deep.model_copy(update={"projection_weight": 0.0})
    student = compress(teacher, free, toy_run(tmp_path, teacher, work="free"))
    save(student, tmp_path / "saved")
    assert same_weights(weights(load(tmp_path / "saved")), weights(student))

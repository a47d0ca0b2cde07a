"""BiLSTM-soft: its loss and word vectors by hand, pairs, and the published code's bug."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compressbert.methods.distill.bilstm_soft import Config, compress, first_vectors
from compressbert.methods.text_student import soft_target_training
from compressbert.model.architectures.text_vectors import BiLSTMModel
from compressbert.model.handle import Model
from compressbert.nn.losses import logit_mse
from tests.methods.toy import logits, toy_model, toy_run, weights


def test_the_gradient_of_the_logits_is_twice_the_difference_over_the_batch() -> None:
    ours, theirs = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3)
    logit_mse(ours, theirs).backward()
    torch.testing.assert_close(ours.grad, 2 * (ours.detach() - theirs) / 5)


def test_labels_and_logits_share_alpha(tmp_path: Path) -> None:
    teacher, student = toy_model(tmp_path), toy_model(tmp_path, seed=5)
    run = toy_run(tmp_path, teacher, teacher=teacher)
    run.train = run.sample(16)
    batch = next(run.sample_batches(student, 16, batch_size=16))
    with torch.no_grad():
        parts = soft_target_training(run, "mse", alpha_soft=0.75, alpha_hard=0.25)(student, batch)
        ours, theirs = (model(**batch.inputs).logits for model in (student, teacher))
    assert float(parts["task"]) == pytest.approx(0.25 * float(run.task.loss(ours, batch.labels)), rel=1e-5)
    assert float(parts["soft"]) == pytest.approx(0.75 * float(logit_mse(ours, theirs)), rel=1e-5)


def test_by_default_no_label_is_read(tmp_path: Path) -> None:
    model = toy_model(tmp_path)
    run = toy_run(tmp_path, model)
    run.train = None if run.train is None else type(run.train)(**{**vars(run.train), "labels": None})
    compress(model, Config(hidden=8), run)
    assert "task" not in run.log[-1]
    assert not Config().reads_labels()
    assert Config(alpha=0.5).reads_labels()


def test_word_vectors_keep_the_teachers_distances() -> None:
    table = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    vectors = first_vectors(table, 6)
    ratio = torch.pdist(vectors) / torch.pdist(table)
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
    assert float(vectors.std()) == pytest.approx(1.0)


def test_the_second_table_stays_as_it_starts(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    student = compress(teacher, Config(embedding=8, hidden=8), toy_run(tmp_path, teacher))
    embeddings = student.network.encoder.embeddings
    first = first_vectors(teacher.network.get_input_embeddings().weight.detach(), 8)
    assert torch.equal(embeddings.frozen_embeddings.weight, first)
    assert not torch.equal(embeddings.word_embeddings.weight, first)
    alone = compress(teacher, Config(embedding=8, hidden=8, multichannel=False), toy_run(tmp_path, teacher))
    assert alone.network.encoder.embeddings.frozen_embeddings is None


def test_random_vectors_differ_from_the_teachers(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    config = Config(hidden=8, init="random")
    found = [
        compress(
            teacher, config, toy_run(tmp_path, teacher, seed=seed, work=f"{seed}")
        ).network.encoder.embeddings
        for seed in (0, 1)
    ]
    assert not torch.equal(found[0].frozen_embeddings.weight, found[1].frozen_embeddings.weight)


def test_the_student_learns_what_its_teacher_says(learned: Model, tmp_path: Path) -> None:
    settings = {"max_steps": 120, "epochs": 50, "learning_rate": 1e-2}
    run = toy_run(tmp_path, learned, rows=256, settings=settings)
    student = compress(learned, Config(hidden=8, head=16), run)
    assert run.log[-1]["soft"] < 0.1 * run.log[0]["soft"]
    assert isinstance(student.network.base_model, BiLSTMModel)
    assert "8 units in each direction" in run.notes[0]


def test_known_bug_what_the_head_reads_is_the_lstms_output(tmp_path: Path) -> None:
    """The published code's pooling looks at what the LSTM is given, so the LSTM's weights change nothing."""
    student = compress(toy_model(tmp_path), Config(hidden=8), toy_run(tmp_path, toy_model(tmp_path)))
    batch = dict(student.tokenizer(["good film", "bad"], padding=True, return_tensors="pt"))
    before = logits(student, batch)
    with torch.no_grad():
        for parameter in student.network.encoder.lstm.parameters():
            parameter.mul_(0.5)
    assert not torch.allclose(before, logits(student, batch))


def test_word_order_matters(tmp_path: Path) -> None:
    student = compress(toy_model(tmp_path), Config(hidden=8), toy_run(tmp_path, toy_model(tmp_path)))
    one, other = (
        dict(student.tokenizer(text, return_tensors="pt")) for text in ("good not bad", "bad not good")
    )
    assert not torch.allclose(logits(student, one), logits(student, other))


def test_the_teacher_is_untouched(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    before = weights(teacher)
    compress(teacher, Config(hidden=8), toy_run(tmp_path, teacher))
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(teacher).items())

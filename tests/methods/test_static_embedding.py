"""Static embeddings: the table by hand, texts and pairs, and encoders without data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compressbert.config.schema import DataConfig
from compressbert.data.encode import encode, token_counts
from compressbert.data.read import read_split
from compressbert.errors import ConfigError, InputError
from compressbert.methods.base import Run
from compressbert.methods.distill.static_embedding import Config, compress, lone_pieces, word_table
from compressbert.methods.text_student import bare_encoder
from compressbert.model.architectures.text_vectors import StaticEmbeddingModel
from compressbert.model.checkpoint import load, save
from compressbert.model.handle import Model
from compressbert.model.pooling import Pooling
from compressbert.nn.word_table import principal_axes
from compressbert.tasks.base import task_for
from compressbert.train.teacher import teacher_outputs
from tests.methods.toy import FAST, logits, toy_model, toy_run
from tests.tiny import toy_rows, write_rows


def test_the_table_is_centred_turned_and_weighted() -> None:
    vectors = torch.tensor([[1.0, 0.0], [3.0, 4.0], [5.0, 2.0]])  # mean (3, 2)
    axes = torch.tensor([[0.0], [1.0]])
    table = word_table(vectors, axes, torch.tensor([1.0, 0.5, 2.0]), special=(0,))
    assert table.tolist() == [[0.0], [1.0], [0.0]]


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_every_piece_is_read_alone_by_the_teacher(family: str, tmp_path: Path) -> None:
    teacher = toy_model(tmp_path, family)
    pieces = lone_pieces(teacher)
    assert len(pieces) == teacher.network.config.vocab_size
    states = teacher_outputs(bare_encoder(teacher, first_token=False), pieces, work=tmp_path)
    start, end = teacher.tokenizer.cls_token_id, teacher.tokenizer.sep_token_id
    ids = torch.tensor([[start, 11, end]])
    with torch.no_grad():
        alone = teacher.network.base_model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    torch.testing.assert_close(torch.tensor(states.rows[11]), alone[0].mean(0))


def test_counts_of_the_rows_are_the_weights(tmp_path: Path) -> None:
    model = toy_model(tmp_path)
    run = toy_run(tmp_path, model)
    counts = token_counts(run.training_data, model.network.config.vocab_size)
    ids = run.training_data.ids.tolist()
    assert counts.sum() == len(ids)
    assert counts[ids[1]] == ids.count(ids[1])
    plain, weighted = (
        compress(
            model, Config(sif=sif), toy_run(tmp_path, model, settings={"learning_rate": 1e-12}, work=f"{sif}")
        )
        for sif in (0, 0.01)
    )
    tables = [found.network.get_input_embeddings().weight.detach() for found in (plain, weighted)]
    ratio = (tables[1] / tables[0])[ids[1]].mean()
    assert float(ratio) == pytest.approx(0.01 / (0.01 + counts[ids[1]] / counts.sum()), rel=1e-3)
    special = model.tokenizer.all_special_ids
    assert float(tables[0][special].abs().max()) < 1e-6


def test_the_student_learns_what_its_teacher_says(learned: Model, tmp_path: Path) -> None:
    run = toy_run(
        tmp_path, learned, rows=256, settings={"max_steps": 150, "epochs": 50, "learning_rate": 1e-2}
    )
    student = compress(learned, Config(), run)
    assert run.log[-1]["soft"] < 0.1 * run.log[0]["soft"]
    assert "task" not in run.log[-1]
    assert run.notes == [
        f"The student is the mean of a table's rows: {len(learned.tokenizer):,} word pieces, 32 wide."
    ]
    assert isinstance(student.network.base_model, StaticEmbeddingModel)


def test_labels_are_read_only_if_they_have_weight(tmp_path: Path) -> None:
    model = toy_model(tmp_path)
    run = toy_run(tmp_path, model)
    run.train = None if run.train is None else type(run.train)(**{**vars(run.train), "labels": None})
    assert compress(model, Config(), run)
    with pytest.raises(InputError, match="no labels"):
        compress(model, Config(alpha_hard=1.0), run)


def test_pairs_are_read_apart(tmp_path: Path) -> None:
    model = toy_model(tmp_path)
    file = write_rows(tmp_path / "pairs.jsonl", toy_rows(32, pairs=True))
    split = read_split(DataConfig(train=str(file)), "train")
    task = task_for(DataConfig(train=str(file)), split.label_names)
    encoded = encode(split, model.tokenizer, task=task, max_length=32, cache=tmp_path / "cache")
    assert encoded.pairs
    run = Run.create(task=task, train=encoded, settings=FAST, work=tmp_path / "work")
    student = compress(model, Config(), run)
    config = student.network.config
    assert (config.pairs, config.sep_token_id) == (True, model.tokenizer.sep_token_id)
    assert student.network.classifier.out_proj.in_features == 4 * 32
    one, other = (
        model.tokenizer(*texts, return_tensors="pt") for texts in (("good", "bad"), ("bad", "good"))
    )
    assert not torch.equal(logits(student, dict(one)), logits(student, dict(other)))


def test_a_sentence_encoder_needs_no_data_and_turns_the_teachers_vectors(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path, head="none")
    teacher.pooling = Pooling("mean", normalize=True)
    run = Run.create(work=tmp_path / "work", settings={"precision": "fp32"})
    student = compress(teacher, Config(tune=False, width=8, sif=0), run)
    assert student.network.get_input_embeddings().weight.shape == (len(teacher.tokenizer), 8)
    save(student, tmp_path / "saved")
    batch = dict(teacher.tokenizer(["good film", "bad"], padding=True, return_tensors="pt"))
    again = load(tmp_path / "saved")
    assert again.pooling == Pooling("mean", normalize=True)
    assert torch.equal(logits(again, batch), logits(student, batch))
    states = teacher_outputs(
        bare_encoder(teacher, first_token=False), lone_pieces(teacher), work=tmp_path / "again"
    )
    vectors = torch.tensor(states.rows)
    turned = (vectors - vectors.mean(0)) @ principal_axes(vectors, 8)
    (word,) = teacher.tokenizer("bad", add_special_tokens=False)["input_ids"]
    expected = torch.nn.functional.normalize(turned[word], dim=0)  # special tokens have no part in it
    torch.testing.assert_close(logits(student, batch)[1], expected, atol=1e-5, rtol=1e-5)


def test_a_tuned_sentence_encoder_points_where_its_teacher_does(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path, head="none")
    teacher.pooling = Pooling("cls", normalize=True)
    settings = {"max_steps": 60, "epochs": 50, "learning_rate": 1e-2}
    run = toy_run(tmp_path, teacher, task="sentence-embedding", settings=settings)
    student = compress(teacher, Config(width=16), run)
    assert run.log[-1]["soft"] < 0.5 * run.log[0]["soft"]
    assert student.pooling == Pooling("mean", normalize=True)


def test_a_classifier_without_tuning_is_refused(tmp_path: Path) -> None:
    model = toy_model(tmp_path)
    with pytest.raises(ConfigError, match="without a head"):
        compress(model, Config(tune=False), toy_run(tmp_path, model))

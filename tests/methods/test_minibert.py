"""MiniBERT: no label is read, only first pieces teach, and texts without labels are enough."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from compressbert.config.schema import CompressConfig, DataConfig
from compressbert.data.batches import Batch
from compressbert.data.encode import Encoded, encode
from compressbert.data.read import read_split
from compressbert.data.unlabelled import read_unlabelled
from compressbert.errors import ConfigError
from compressbert.methods.base import Run
from compressbert.methods.distill.minibert import Config, compress, training_loss
from compressbert.model.checkpoint import load
from compressbert.model.handle import Model
from compressbert.pipeline.steps.compress import compress as distil
from compressbert.train.predict import score
from tests.data.listening import hearing
from tests.methods.toy import FAST, same_weights, toy_model, toy_run, trained_on, weights
from tests.tiny import TAGS, save_tiny, tagged_rows, toy_rows, write_rows


def tagger(folder: Path, **options: int) -> Model:
    return toy_model(folder, head="tokens", labels=5, **options)


def batch_of(run: Run, model: Model) -> Batch:
    return next(run.sample_batches(model, 8, batch_size=8))


class Sure(Model):
    """A teacher that gives all chance to one tag for each word: the id of the word's piece modulo 5."""

    def __call__(self, **inputs: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=100.0 * torch.nn.functional.one_hot(inputs["input_ids"] % 5, 5))


def test_with_a_teacher_that_is_sure_it_is_the_supervised_loss(tmp_path: Path) -> None:
    student = tagger(tmp_path, seed=5)
    teacher = Sure(student.network, student.tokenizer, student.base_config)
    run = replace(toy_run(tmp_path, student, task="token-classification"), teacher=teacher)
    student.network.requires_grad_(True)
    batch = batch_of(run, student)
    with torch.no_grad():
        found = training_loss(run, 1.0)(student, batch)["soft"]
        taught = torch.where(batch.words >= 0, batch.inputs["input_ids"] % 5, -100)
        supervised = run.required_task.loss(student(**batch.inputs).logits, taught)
    assert float(found) == pytest.approx(float(supervised), rel=1e-5)


def test_pieces_after_the_first_and_special_tokens_have_no_gradient(tmp_path: Path) -> None:
    teacher, student = tagger(tmp_path), tagger(tmp_path, seed=5)
    rows = [{"tokens": ["films", "was", "goodly"], "ner_tags": ["O", "O", "B-GOOD"]}] * 2
    run = run_over(tmp_path, teacher, write_rows(tmp_path / "pieces.jsonl", rows), labelled=True)
    batch = batch_of(run, student)
    kept: list[torch.Tensor] = []

    def keep(_module: object, _inputs: object, output: torch.Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    hook = student.network.classifier.register_forward_hook(keep)
    training_loss(run, 2.0)(student, batch)["soft"].backward()
    hook.remove()
    firsts = kept[0].grad.abs().sum(-1) > 0  # (B, S)
    # [CLS] film ##s was good ##ly [SEP]
    assert firsts.tolist() == [[False, True, False, True, True, False, False]] * 2


def test_labels_are_not_read(tmp_path: Path) -> None:
    teacher = tagger(tmp_path)
    run = toy_run(tmp_path, teacher, task="token-classification", teacher=teacher)
    wrong = run.training_data
    shuffled = replace(wrong, token_labels=(wrong.token_labels + 1) % 5, key="other labels")
    first = compress(teacher, Config(), run)
    second = compress(teacher, Config(), replace(run, train=shuffled, work=tmp_path / "other"))
    assert same_weights(weights(first), weights(second))


def unlabelled(folder: Path, teacher: Model, *names: str) -> Encoded:
    """Toy sentences as plain text, one file for each name."""
    for number, name in enumerate(names):
        lines = [" ".join(row["tokens"]) for row in tagged_rows(64, seed=7 + number)]
        (folder / name).write_text("\n".join(lines), encoding="utf-8")
    config = DataConfig.model_validate(
        {"task": "token-classification", "unlabelled": {"files": [str(folder / name) for name in names]}}
    )
    split = read_unlabelled(config, TAGS, seed=0)
    task = toy_run(folder, teacher, task="token-classification").required_task
    return encode(split, teacher.tokenizer, task=task, max_length=32, cache=folder / "cache")


def test_a_student_learns_tags_from_plain_text_alone(tmp_path: Path) -> None:
    teacher = tagger(tmp_path)
    rate = {"learning_rate": 5e-3}
    labelled = toy_run(tmp_path, teacher, task="token-classification", rows=256, settings=rate)
    trained_on(labelled, teacher, steps=150)
    texts = unlabelled(tmp_path, teacher, "a.txt", "b.txt")
    run = Run.create(
        task=labelled.task, unlabelled=texts, work=tmp_path / "student", teacher=teacher,
        settings={**FAST, "max_steps": 200, "epochs": 100, "learning_rate": 5e-3},
    )  # fmt: skip
    student = compress(teacher, Config(layers=1, init="random"), run)
    assert run.notes[-1] == "The student learns from 128 texts without labels."
    scores = [score(model, labelled.training_data, labelled.required_task) for model in (teacher, student)]
    assert scores[0] > 0.7
    assert scores[1] > 0.85 * scores[0]


def test_the_command_needs_no_labels_and_records_what_it_read(tmp_path: Path) -> None:
    stock = save_tiny(tmp_path / "model", head="tokens", labels=5)
    config = json.loads((stock / "config.json").read_text(encoding="utf-8"))
    config |= {"id2label": dict(enumerate(TAGS)), "label2id": {tag: i for i, tag in enumerate(TAGS)}}
    (stock / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "a.txt").write_text("the film was good\n\na dull, cold plot!\n", encoding="utf-8")
    data = {"task": "token-classification", "unlabelled": {"files": [str(tmp_path / "a.txt")], "rows": 6}}
    settings = {
        "model": {"path": str(stock)}, "data": data, "output": str(tmp_path / "student"),
        "method": {"name": "minibert"}, "train": {"max_steps": 2, "precision": "fp32"},
    }  # fmt: skip
    result = distil("distill", CompressConfig.model_validate(settings))
    assert result.notes[-1] == "The student learns from 6 texts without labels."
    assert result.lineage[-1].data.rows == {"unlabelled": 6}
    assert list(result.lineage[-1].data.files) == [str(tmp_path / "a.txt")]
    assert tuple(load(tmp_path / "student").network.config.id2label.values()) == TAGS


def test_a_method_that_does_not_read_them_says_so(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "rows.jsonl", toy_rows(16))
    settings = {
        "model": {"path": str(save_tiny(tmp_path / "model"))}, "output": str(tmp_path / "student"),
        "data": {"train": str(file), "unlabelled": {"files": [str(file)]}},
        "method": {"name": "pkd"}, "train": {"max_steps": 1, "precision": "fp32"},
    }  # fmt: skip
    with hearing() as heard:
        distil("distill", CompressConfig.model_validate(settings))
    assert "pkd does not read data.unlabelled" in heard.notes


def test_labels_afterwards_need_training_rows(tmp_path: Path) -> None:
    teacher = tagger(tmp_path)
    run = toy_run(tmp_path, teacher, task="token-classification", settings={"max_steps": 2})
    compress(teacher, Config(task_epochs=1), run)
    assert {"soft", "task"} <= run.log[-1].keys()
    alone = replace(run, train=None, unlabelled=run.training_data, work=tmp_path / "alone")
    with pytest.raises(ConfigError, match="needs training data"):
        compress(teacher, Config(task_epochs=1), alone)


def run_over(folder: Path, model: Model, file: Path, *, labelled: bool) -> Run:
    """A run over a file of tagged rows."""
    base = toy_run(folder, model, task="token-classification", teacher=model)
    config = DataConfig.model_validate({"task": "token-classification", "train": str(file)})
    split = read_split(config, "train", label_names=TAGS, need_labels=labelled)
    rows = encode(split, model.tokenizer, task=base.required_task, max_length=32, cache=folder / "cache")
    return replace(base, train=rows)

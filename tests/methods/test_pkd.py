"""Patient distillation: which layers look where, the weights of its parts, and its cache."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compressbert.errors import ConfigError
from compressbert.methods.distill.pkd import Config, compress, first_tokens, training_loss, watched_layers
from compressbert.methods.knowledge import task_loss
from compressbert.model.edits import keep_layers
from compressbert.nn.losses import soft_label_loss
from compressbert.nn.transfer import patient_loss
from tests.methods.toy import same_weights, toy_model, toy_run, weights


@pytest.mark.parametrize(
    ("layers", "patience", "expected"),
    [
        (6, "skip", (1, 3, 5, 7, 9)),  # the paper counts from 1: 2, 4, 6, 8, 10
        (3, "skip", (3, 7)),
        (6, "last", (6, 7, 8, 9, 10)),
        (3, "last", (9, 10)),
        (1, "skip", ()),
    ],
)
def test_the_layers_looked_at_are_the_papers(layers: int, patience: str, expected: tuple[int, ...]) -> None:
    assert watched_layers(12, layers, patience) == expected


def test_parts_are_the_papers_weighted_losses(tmp_path: Path) -> None:
    teacher, student = toy_model(tmp_path, layers=4), toy_model(tmp_path, seed=5)
    run = toy_run(tmp_path, teacher, teacher=teacher)
    run.train = run.sample(16)
    batch = next(run.sample_batches(student, 16, batch_size=16))
    config = Config(temperature=5.0, alpha=0.2, beta=3.0)
    with torch.no_grad():
        found = training_loss(run, config, (1,))(student, batch)
        ours, theirs = (model(**batch.inputs, output_hidden_states=True) for model in (student, teacher))
    assert float(found["task"]) == pytest.approx(0.8 * float(run.task.loss(ours.logits, batch.labels)))
    soft = soft_label_loss(ours.logits, theirs.logits, 5.0)
    assert float(found["soft"]) == pytest.approx(0.2 * float(soft), rel=1e-4)
    patience = patient_loss(first_tokens(ours.hidden_states, (0,)), first_tokens(theirs.hidden_states, (1,)))
    assert float(found["patience"]) == pytest.approx(
        3 * float(patience), rel=1e-2
    )  # the cache is in half precision


def test_without_its_weights_it_is_plain_fine_tuning_step_for_step(tmp_path: Path) -> None:
    model = toy_model(tmp_path)
    student = compress(model, Config(layers=1, alpha=0, beta=0), toy_run(tmp_path, model))
    plain = model.copy()
    keep_layers(plain, [0])
    run = toy_run(tmp_path, model, work="plain")
    run.fit(plain, task_loss(run), stage="distill")
    assert same_weights(weights(student), weights(plain))


def test_cached_states_belong_to_their_rows_however_rows_are_shuffled(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path, layers=4)
    run = toy_run(tmp_path, teacher, teacher=teacher)
    cache = run.teacher_outputs(layers=(1, 3))
    assert cache.states(torch.arange(2)).shape == (2, 2, 32)
    rows = torch.tensor([7, 0, 31])
    one_by_one = torch.cat([cache.states(row[None]) for row in rows])
    assert torch.equal(cache.states(rows), one_by_one)
    for batch in run.sample_batches(teacher, 64):
        with torch.no_grad():
            hidden = teacher(**batch.inputs, output_hidden_states=True).hidden_states
        torch.testing.assert_close(
            cache.states(batch.examples), first_tokens(hidden, (1, 3)), atol=2e-3, rtol=2e-3
        )


@pytest.mark.parametrize(
    ("task", "head", "passes"),
    [("sequence-classification", "classification", 1), ("token-classification", "tokens", 4)],
)
def test_one_pass_of_the_teacher_gives_answers_and_states(
    task: str, head: str, passes: int, tmp_path: Path
) -> None:
    labels = 2 if head == "classification" else 5
    teacher, model = (toy_model(tmp_path, head=head, labels=labels, seed=seed) for seed in (0, 5))
    run = toy_run(tmp_path, teacher, task=task, rows=64, settings={"max_steps": 4}, teacher=teacher)
    seen: list[int] = []
    teacher.network.register_forward_hook(lambda *_: seen.append(1))
    compress(model, Config(layers=2), run)
    assert len(seen) == passes  # over all 64 rows at once, or with the student on each batch of 16


def test_the_student_has_the_first_layers_and_learns_where_its_teacher_points(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path, layers=4)
    run = toy_run(tmp_path, teacher, settings={"max_steps": 40, "epochs": 20})
    student = compress(teacher, Config(beta=50.0), run)
    assert [edit.arguments for edit in student.edits] == [{"layers": [0, 1]}]
    assert run.notes == ["The student keeps layers 0, 1 of its teacher and looks at 1 of them."]
    assert run.log[-1]["patience"] < 0.7 * run.log[0]["patience"]


def test_impossible_settings(tmp_path: Path) -> None:
    model, wide = toy_model(tmp_path), toy_model(tmp_path / "wide", hidden=64)
    with pytest.raises(ConfigError, match="64 wide"):
        compress(model, Config(layers=1), toy_run(tmp_path, model, teacher=wide))
    shallow = toy_model(tmp_path / "shallow", layers=1)
    with pytest.raises(ConfigError, match="the student has 2 layers, its teacher 1"):
        compress(model, Config(layers=2), toy_run(tmp_path, model, teacher=shallow))

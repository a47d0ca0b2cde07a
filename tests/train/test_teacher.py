"""Teacher outputs: right rows, no dropout, computed once, never another teacher's or other data's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compressbert.data.batches import training_batches
from compressbert.errors import ConfigError, WorkError
from compressbert.train import teacher as module
from compressbert.train.predict import predict
from compressbert.train.teacher import TeacherOutputs, teacher_outputs
from tests.train.support import files_of, tiny_model, toy


def test_logits_and_hidden_of_shuffled_examples_are_those_of_their_rows(tmp_path: Path) -> None:
    _, encoded = toy(tmp_path, rows=30)
    teacher = tiny_model()
    outputs = teacher_outputs(teacher, encoded, work=tmp_path / "work", layers=(1,))
    for batch in training_batches(encoded, batch_size=7, seed=3, epoch=1, pad_id=0):
        expected = teacher(**batch.inputs, output_hidden_states=True)
        logits, hidden = outputs.logits(batch.examples), outputs.states(batch.examples)[:, 0]
        assert logits.dtype == hidden.dtype == torch.float32
        torch.testing.assert_close(logits, expected.logits.detach(), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(hidden, expected.hidden_states[-1][:, 0].detach(), atol=1e-2, rtol=1e-3)
    assert isinstance(outputs.rows, np.memmap)


def test_a_teacher_in_training_mode_gives_dropout_free_targets(tmp_path: Path) -> None:
    _, encoded = toy(tmp_path, rows=12)
    teacher = tiny_model(hidden_dropout_prob=0.5)
    expected = predict(teacher, encoded)
    teacher.train()
    teacher.network.requires_grad_(True)
    outputs = teacher_outputs(teacher, encoded, work=tmp_path / "work")
    assert np.array_equal(outputs.rows, expected)
    assert not outputs.logits(torch.arange(3)).requires_grad
    assert teacher.network.training


def test_computed_once_and_again_only_for_other_weights_rows_or_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, encoded = toy(tmp_path, rows=12)
    teacher, computed = tiny_model(), []
    compute = module._compute
    monkeypatch.setattr(module, "_compute", lambda *arguments: (computed.append(1), compute(*arguments)))

    def outputs(**options: Any) -> TeacherOutputs:
        arguments: dict[str, Any] = {
            "teacher": teacher,
            "encoded": encoded,
            "work": tmp_path / "work",
            **options,
        }
        return teacher_outputs(arguments.pop("teacher"), arguments.pop("encoded"), **arguments)

    first = outputs()
    assert np.array_equal(outputs().rows, first.rows)
    assert len(computed) == 1
    outputs(layers=(1,))
    assert len(computed) == 2
    np.testing.assert_allclose(outputs(encoded=encoded.subset([3, 1])).rows, first.rows[[3, 1]], atol=1e-5)
    assert len(computed) == 3
    with torch.no_grad():
        teacher.network.classifier.bias.add_(1.0)
    assert np.allclose(outputs().rows, first.rows + 1.0, atol=1e-5)
    assert len(computed) == 4


def test_bfloat16_targets_are_near_and_kept_apart(tmp_path: Path) -> None:
    _, encoded = toy(tmp_path, rows=30)
    teacher = tiny_model()
    exact = teacher_outputs(teacher, encoded, work=tmp_path / "work").rows
    near = teacher_outputs(teacher, encoded, work=tmp_path / "work", precision="bf16").rows
    assert near.dtype == np.float32
    assert not np.array_equal(near, exact)
    np.testing.assert_allclose(near, exact, atol=0.02 * np.abs(exact).max())


def test_an_interrupted_computation_leaves_nothing_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, encoded = toy(tmp_path, rows=12)
    teacher, work = tiny_model(), tmp_path / "work"

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.Path, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            teacher_outputs(teacher, encoded, work=work)
    assert all(".partial/" in name for name in files_of(work))
    assert np.array_equal(teacher_outputs(teacher, encoded, work=work).rows, predict(teacher, encoded))
    assert not any(".partial/" in name for name in files_of(work))


def test_full_disk_hidden_not_kept_and_masked_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, encoded = toy(tmp_path, rows=12)
    teacher = tiny_model()
    with pytest.raises(ConfigError, match="hidden"):
        teacher_outputs(teacher, encoded, work=tmp_path / "a").states(torch.arange(2))
    _, masked = toy(tmp_path, rows=5, kind="masked-lm")
    with pytest.raises(ConfigError, match="masked-lm"):
        teacher_outputs(teacher, masked, work=tmp_path / "b")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "posix_fallocate", full)
    with pytest.raises(WorkError, match="no space left"):
        teacher_outputs(teacher, encoded, work=tmp_path / "c")

"""A stage that is killed ends as if it had not been; a finished one is not trained again; others start over."""

from __future__ import annotations

import contextlib
import errno
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from compressbert import progress
from compressbert.errors import WorkError
from compressbert.train import checkpoint
from compressbert.train.checkpoint import disk_errors, fingerprint
from tests.train import resume_worker
from tests.train.support import Notes, files_of, same, tiny_model, train, weights

ROOT = Path(__file__).parents[2]


def run_killed_after(step: int, folder: Path) -> None:
    """Run the worker as a process and kill it as soon as it says that ``step`` (from 0) is done."""
    folder.mkdir()
    command = [sys.executable, "-m", "tests.train.resume_worker", str(folder), "0.05"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == str(step):
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL


def test_killed_in_mid_epoch_ends_bit_identical(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Dropout, noise in the loss, accumulation 2, bf16, an extra module, keep best."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_killed_after(9, killed)  # 4 steps an epoch, checkpoints every 3: step 10 is the third epoch's second
    assert not (killed / "final").exists()
    assert [path.name for path in (killed / "work" / "train").glob("checkpoint-*[0-9]")] == [
        "checkpoint-00000009"
    ]

    resume_worker.main(killed, 0.0)
    resumed = capsys.readouterr().out.splitlines()
    whole.mkdir()
    resume_worker.main(whole, 0.0)
    straight = capsys.readouterr().out.splitlines()

    assert resumed[0] == "9"  # the first step done again, from 0
    assert resumed[-1].endswith("resumed 9")
    assert straight[-1].endswith("resumed None")
    assert resumed[-1].split("resumed")[0] == straight[-1].split("resumed")[0]  # log, metrics and kept step
    assert (whole / "final").read_bytes() == (killed / "final").read_bytes()
    assert files_of(killed / "work") == ["train/done/state.json", "train/done/weights.safetensors"]


def test_finished_stage_is_read_back_and_not_trained(tmp_path: Path) -> None:
    first, second = tiny_model(), tiny_model()
    extra, extra_again = nn.Linear(2, 2), nn.Linear(2, 2)
    extra_again.load_state_dict(extra.state_dict())
    result = train(first, tmp_path, extra_modules={"extra": extra})

    def never(step: int, total: int) -> None:
        raise AssertionError("a finished stage was trained again")

    read = train(second, tmp_path, extra_modules={"extra": extra_again}, before_step=never)
    assert same(weights(first.network, extra), weights(second.network, extra_again))
    assert read.log == result.log
    assert (read.steps, read.seconds, read.resumed_from) == (result.steps, result.seconds, result.steps)
    assert not any(module.training for module in second.network.modules())


@pytest.mark.parametrize(
    "change", ["seed", "learning_rate", "rows", "weights", "structure"]
)  # fmt: skip
def test_another_run_in_the_same_place_starts_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    train(tiny_model(), tmp_path, settings={"max_steps": 2})
    listener = Notes()
    monkeypatch.setattr(progress, "_listener", listener)
    options: dict[str, Any] = {"settings": {"max_steps": 2}}
    model = tiny_model(layers=1) if change == "structure" else tiny_model()
    if change == "seed":
        options["seed"] = 1
    elif change == "learning_rate":
        options["settings"]["learning_rate"] = 1e-5
    elif change == "rows":
        options["rows"] = 61
    elif change == "weights":
        with torch.no_grad():
            model.network.classifier.bias.add_(1e-6)
    result = train(model, tmp_path, **options)
    assert result.resumed_from is None
    assert any("starting over" in text for text in listener.said)


def test_how_often_checkpoints_are_written_does_not_bind_them(tmp_path: Path) -> None:
    train(tiny_model(), tmp_path, settings={"max_steps": 2, "checkpoint_every": 1})
    assert train(tiny_model(), tmp_path, settings={"max_steps": 2, "checkpoint_every": 2}).resumed_from == 2


class Killed(BaseException):
    """Stands for a kill between two steps on the disk."""


@pytest.mark.parametrize("moment", range(1, 17))
def test_a_kill_at_any_moment_of_writing_leaves_a_state_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Stop at each rename, removal and write in turn; the next run must end as an undisturbed one."""
    settings = {"epochs": 1, "checkpoint_every": 1}  # 3 steps: 2 checkpoints and the end
    whole = tiny_model()
    train(whole, tmp_path / "whole", rows=24, settings=settings)

    done = 0

    def stop_at_moment(work: Any) -> Any:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            nonlocal done
            done += 1
            if done == moment:
                if work is shutil.rmtree and Path(arguments[0]).is_dir():
                    next(Path(arguments[0]).glob("*")).unlink()  # half removed
                raise Killed
            return work(*arguments, **options)

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", stop_at_moment(checkpoint.save_file))
        patch.setattr(checkpoint.shutil, "rmtree", stop_at_moment(shutil.rmtree))
        patch.setattr(Path, "rename", stop_at_moment(Path.rename))
        with contextlib.suppress(Killed):
            train(tiny_model(), tmp_path / "killed", rows=24, settings=settings)
        assert (done >= moment) == (moment <= 15), "the list of moments above is out of date"
    model = tiny_model()
    train(model, tmp_path / "killed", rows=24, settings=settings)
    assert same(weights(model.network), weights(whole.network))
    assert files_of(tmp_path / "killed" / "work") == [
        "train/done/state.json",
        "train/done/weights.safetensors",
    ]


def test_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    train(tiny_model(), tmp_path, settings={"max_steps": 2})
    file = tmp_path / "work" / "train" / "done" / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(WorkError, match=r"done is damaged") as caught:
        train(tiny_model(), tmp_path, settings={"max_steps": 2})
    assert "Remove" in caught.value.hint


def test_full_disk_is_work_error_however_it_is_reported(tmp_path: Path) -> None:
    text = "Error while serializing: I/O error: No space left on device (os error 28)"
    for error in (
        OSError(errno.ENOSPC, "full"),
        OSError(errno.EDQUOT, "quota"),
        checkpoint.SafetensorError(text),
    ):
        with pytest.raises(WorkError, match="no space left"), disk_errors(tmp_path):
            raise error
    with pytest.raises(PermissionError), disk_errors(tmp_path):
        raise PermissionError(errno.EACCES, "no")


def test_after_a_full_disk_the_same_command_goes_on_from_its_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"epochs": 1, "checkpoint_every": 3}
    save, saved = checkpoint.save_file, []

    def full_at_the_second_checkpoint(tensors: Any, path: Path) -> None:
        saved.append(path)
        if len(saved) == 3:  # a checkpoint is two files
            raise checkpoint.SafetensorError("I/O error: No space left on device (os error 28)")
        save(tensors, path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full_at_the_second_checkpoint)
        with pytest.raises(WorkError, match="no space left on the disk") as caught:
            train(tiny_model(), tmp_path, settings=settings)
    assert "goes on" in caught.value.hint
    assert train(tiny_model(), tmp_path, settings=settings).resumed_from == 3


def test_fingerprint_sees_names_types_shapes_values_and_facts() -> None:
    base = {"a": torch.zeros(4), "b": torch.tensor(1)}
    prints = [
        fingerprint(base),
        fingerprint({"c": base["a"], "b": base["b"]}),
        fingerprint({**base, "a": torch.zeros(4, dtype=torch.int32)}),
        fingerprint({**base, "a": torch.zeros(2, 2)}),
        fingerprint({**base, "a": torch.tensor([0.0, 0.0, 0.0, -0.0])}),
        fingerprint(base, "fact"),
        fingerprint(base, {"x": 1}),
    ]
    assert len(set(prints)) == len(prints)
    assert fingerprint(dict(reversed(base.items())), {"y": 2, "x": 1}) == fingerprint(base, {"x": 1, "y": 2})

"""Step folders: complete or absent, resumable, one writer at a time."""

# ruff: noqa: PT012 - what is tested is what leaving a block with an error does

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from compressbert.errors import ConfigError, InputError, WorkError
from compressbert.results.environment import environment
from compressbert.results.hashing import hash_files
from compressbert.results.record import StepResult
from compressbert.results.store import (
    StepFolder,
    check_target,
    folder_lock,
    read_result,
    step_folder,
    write_json_atomic,
)


def record(step: str = "out") -> StepResult:
    return StepResult(
        step=step, command="prune", config={}, seed=0, environment=environment(), seconds=1.0, files={}
    )


def write_step(target: Path, content: str = "weights", **options: object) -> StepResult:
    with step_folder(target, **options) as step:  # type: ignore[arg-type]
        (step.folder / "sub").mkdir()
        (step.folder / "sub" / "model.bin").write_text(content)
        (step.work / "checkpoint").write_text("half way")
        return step.commit(record())


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_finished_step_leaves_its_folder_and_nothing_else(tmp_path: Path) -> None:
    committed = write_step(tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["result.json", "sub"]
    assert committed.files == hash_files(tmp_path / "out")
    assert list(committed.files) == ["sub/model.bin"]
    assert read_result(tmp_path / "out") == committed


def test_files_are_readable_as_the_umask_says(tmp_path: Path) -> None:
    with step_folder(tmp_path / "out") as step:
        (step.folder / "private").touch(mode=0o600)
        step.commit(record())
    expected = 0o666 & ~_umask()
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "out").iterdir()} == {expected}


def test_the_target_is_absent_until_the_end(tmp_path: Path) -> None:
    with step_folder(tmp_path / "out") as step:
        (step.folder / "a").write_text("x")
        step.commit(record())
        assert not (tmp_path / "out").exists()
        assert not (step.folder / "result.json").exists()
    assert (tmp_path / "out" / "result.json").is_file()


def test_an_existing_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    write_step(tmp_path / "out", "first")
    with pytest.raises(ConfigError, match=r"output folder .*out is not empty") as caught:
        write_step(tmp_path / "out", "second")
    assert "--overwrite" in caught.value.hint
    assert (tmp_path / "out" / "sub" / "model.bin").read_text() == "first"
    assert names(tmp_path) == ["out"]


def test_overwrite_replaces_the_whole_folder(tmp_path: Path) -> None:
    write_step(tmp_path / "out", "first")
    (tmp_path / "out" / "stray").write_text("old")
    write_step(tmp_path / "out", "second", overwrite=True)
    assert names(tmp_path / "out") == ["result.json", "sub"]
    assert (tmp_path / "out" / "sub" / "model.bin").read_text() == "second"
    assert names(tmp_path) == ["out"]


def test_an_overwrite_that_fails_leaves_the_old_folder(tmp_path: Path) -> None:
    write_step(tmp_path / "out", "first")
    with pytest.raises(RuntimeError), step_folder(tmp_path / "out", overwrite=True) as step:
        (step.folder / "model.bin").write_text("half")
        raise RuntimeError
    assert (tmp_path / "out" / "sub" / "model.bin").read_text() == "first"
    assert names(tmp_path) == ["out"]


def test_an_empty_folder_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_step(tmp_path / "out")
    assert names(tmp_path / "out") == ["result.json", "sub"]


def fail(target: Path, key: str, *, checkpoint: bool = True) -> None:
    with pytest.raises(WorkError, match="diverged"), step_folder(target, key=key) as step:
        (step.folder / "half").write_text("x")
        if checkpoint:
            (step.work / "checkpoint").write_text("step 100")
        raise WorkError("diverged")


def test_a_failure_keeps_the_work_and_the_same_key_finds_it(tmp_path: Path) -> None:
    fail(tmp_path / "out", "k1")
    assert names(tmp_path) == [".out.partial"]
    assert names(tmp_path / ".out.partial") == ["work"]
    with step_folder(tmp_path / "out", key="k1") as step:
        assert (step.work / "checkpoint").read_text() == "step 100"
        assert names(step.folder) == []
        step.commit(record())
    assert names(tmp_path) == ["out"]


def test_work_of_other_settings_is_thrown_away(tmp_path: Path) -> None:
    fail(tmp_path / "out", "k1")
    with step_folder(tmp_path / "out", key="k2") as step:
        assert not (step.work / "checkpoint").exists()
        step.commit(record())


def test_a_failure_without_a_checkpoint_leaves_nothing(tmp_path: Path) -> None:
    fail(tmp_path / "out", "k1", checkpoint=False)
    assert names(tmp_path) == []


def test_an_interruption_is_a_failure_too(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), step_folder(tmp_path / "out") as step:
        (step.work / "checkpoint").write_text("x")
        raise KeyboardInterrupt
    assert names(tmp_path / ".out.partial") == ["work"]


def test_a_step_that_forgets_its_result_keeps_nothing(tmp_path: Path) -> None:
    with pytest.raises(WorkError, match="without a result"), step_folder(tmp_path / "out"):
        pass
    assert names(tmp_path) == []


def test_a_second_writer_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    with step_folder(tmp_path / "out") as step:
        with pytest.raises(ConfigError, match=rf"being written by another process \(pid {os.getpid()}\)"):
            step_folder(tmp_path / "out").__enter__()
        step.commit(record())
    assert names(tmp_path) == ["out"]


HOLDER = """
import sys, time
from pathlib import Path
from compressbert.results.store import step_folder
with step_folder(Path(sys.argv[1]), key="k") as step:
    (step.folder / "half").write_text("x")
    (step.work / "checkpoint").write_text("step 7")
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_holds_nothing_and_its_work_is_found(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        with pytest.raises(ConfigError, match=rf"\(pid {holder.pid}\)"):
            step_folder(tmp_path / "out", key="k").__enter__()
        holder.send_signal(signal.SIGKILL)
    with step_folder(tmp_path / "out", key="k") as step:
        assert (step.work / "checkpoint").read_text() == "step 7"
        assert names(step.folder) == []
        step.commit(record())
    assert names(tmp_path) == ["out"]


def test_a_kill_between_the_two_renames_is_undone(tmp_path: Path) -> None:
    write_step(tmp_path / "out", "first")
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / "out").rename(tmp_path / ".out.partial" / "old")  # what a kill there leaves
    with pytest.raises(ConfigError, match="is not empty"):
        step_folder(tmp_path / "out").__enter__()
    assert read_result(tmp_path / "out").step == "out"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left"), ValueError("I/O error (os error 28)")]
)
def test_a_full_disk_is_said_so(tmp_path: Path, error: Exception) -> None:
    with (
        pytest.raises(WorkError, match=r"disk full: [\d,]+ bytes free at") as caught,
        step_folder(tmp_path / "out"),
    ):
        raise error
    assert caught.value.exit_code == 4
    assert names(tmp_path) == []


def test_a_full_disk_while_publishing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(WorkError, match="disk full"), step_folder(tmp_path / "out") as step:
        (step.folder / "a").write_text("x")
        (step.work / "checkpoint").write_text("x")
        step.commit(record())
        monkeypatch.setattr(os, "fsync", full)
    assert names(tmp_path) == [".out.partial"]
    assert names(tmp_path / ".out.partial") == ["work"]


def test_targets_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="is a file; expected a folder"):
        check_target(tmp_path / "file")
    with pytest.raises(ConfigError, match="mount point"):
        check_target(Path("/proc"))
    with pytest.raises(ConfigError, match="cannot write"):
        StepFolder(tmp_path / "file" / "below", overwrite=False, key="").__enter__()
    assert names(tmp_path) == ["file"]


def test_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    write_step(tmp_path / "link" / "out")
    assert names(tmp_path / "disk") == ["out"]


def test_folder_lock_is_exclusive_and_leaves_nothing(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "run"):
        with pytest.raises(ConfigError, match="being written"), folder_lock(tmp_path / "run"):
            pass
        with folder_lock(tmp_path / "other"):
            pass
    with folder_lock(tmp_path / "run"):
        pass
    assert names(tmp_path) == []


class TestReadResult:
    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no folder at"):
            read_result(tmp_path / "absent")

    def test_incomplete(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"is incomplete: it has no result\.json"):
            read_result(tmp_path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"{", "is not JSON"),
            (b"\xff", "is not JSON"),
            (b"[]", "is not a step's record"),
            (b'{"step": "x"}', "is not a step's record: command: Field required"),
            (b'{"schema_version": 99}', "schema version 99; this compressbert reads up to 1"),
        ],
    )
    def test_damaged(self, tmp_path: Path, content: bytes, message: str) -> None:
        (tmp_path / "result.json").write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_result(tmp_path)
        assert message in caught.value.message
        assert caught.value.exit_code == 3


def test_atomic_writing_keeps_the_old_file_on_failure(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_json_atomic(file, {"b": 1, "a": "ü"})
    with pytest.raises(ValueError, match="Out of range float"):
        write_json_atomic(file, {"a": float("nan")})
    assert json.loads(file.read_text(encoding="utf-8")) == {"b": 1, "a": "ü"}
    assert names(tmp_path) == ["a.json"]
    assert file.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

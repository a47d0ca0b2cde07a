"""Step folders on disk: written beside their target, complete or absent, resumable after a kill.

A step that targets ``out/`` works in ``.out.partial/`` beside it: ``folder/`` becomes ``out/`` in one rename,
with ``result.json`` written last; ``work/`` keeps checkpoints until then, so the same command resumes.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import ValidationError

from compressbert.errors import ConfigError, InputError, WorkError
from compressbert.results.hashing import RESULT_NAME, hash_files
from compressbert.results.lock import file_lock, folder_lock
from compressbert.results.record import SCHEMA_VERSION, StepResult

__all__ = [
    "RESULT_NAME",
    "StepFolder",
    "check_target",
    "disk_full",
    "folder_lock",
    "hash_files",
    "read_result",
    "step_folder",
    "work_folder",
    "write_json_atomic",
]

_KEY_NAME = "key"


def step_folder(target: Path, *, overwrite: bool = False, key: str = "") -> StepFolder:
    """Return the context in which a step writes ``target``.

    Args:
        target: The folder to make.
        overwrite: Replace an existing folder, once the new one is complete.
        key: Identifies the work; work kept from a run with another key is thrown away.

    Raises (on entering the block, before any work):
        ConfigError: ``target`` is not empty and ``overwrite`` is off, is a file or a mount point, cannot be
            made, or is being written by another process.
    """
    return StepFolder(Path(target), overwrite=overwrite, key=key)


def work_folder(target: Path) -> Path:
    """Where a step that targets ``target`` keeps its work: `StepFolder.work`, for processes that do not own it."""
    place = Path(os.path.realpath(target))
    return place.parent / f".{place.name}.partial" / "work"


def check_target(target: Path, *, overwrite: bool = False, shown: Path | None = None) -> None:
    """Check that a step may write ``target``; touches nothing.

    Raises:
        ConfigError: It is not empty and ``overwrite`` is off, or it is a file or a mount point.
    """
    shown = shown or target
    if target.is_mount():
        raise ConfigError(f"{shown} is a mount point", hint=f"Choose a folder in it: {shown}/model")
    if target.exists() and not target.is_dir():
        raise ConfigError(f"{shown} is a file; expected a folder to write", hint="Choose another --output.")
    if not overwrite and target.is_dir() and any(target.iterdir()):
        raise ConfigError(
            f"output folder {shown} is not empty",
            hint="Add --overwrite to replace it, or choose another --output.",
        )


class StepFolder:
    """A step's folder in the making.

    Attributes:
        folder: What becomes the target.
        work: Scratch that survives a failure: checkpoints, caches. Gone after success.
    """

    def __init__(self, target: Path, *, overwrite: bool, key: str) -> None:
        self.target = Path(os.path.realpath(target))
        self.shown = target
        self.work = work_folder(target)
        partial = self._partial = self.work.parent
        self.folder = partial / "folder"
        self._old = partial / "old"  # the folder that is being replaced
        self._overwrite = overwrite
        self._key = key
        self._result: StepResult | None = None
        self._held = ExitStack()

    def __enter__(self) -> StepFolder:
        try:
            with ExitStack() as held:
                self._check_target()
                held.callback(_remove_if_empty, self._partial)
                held.enter_context(file_lock(self._partial / "lock", what=self.shown))
                self._restore()
                self._check_target()  # again: whoever held the lock may just have finished
                self._prepare()
                self._held = held.pop_all()
        except OSError as error:
            unwritable = ConfigError(
                f"cannot write {self.shown}: {error.strerror}", hint="Choose another --output."
            )
            raise disk_full(error, self.target.parent) or unwritable from error
        return self

    def commit(self, result: StepResult) -> StepResult:
        """Take ``result`` as the step's record and return it with the digests of the folder's files.

        It is written, and the folder put in place, when the block ends.
        """
        self._result = result.model_copy(update={"files": hash_files(self.folder)})
        return self._result

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        published = False
        try:
            if error is None:
                self._publish()
                published = True
        except OSError as failure:
            failed = WorkError(f"cannot finish {self.shown}: {failure}")
            raise disk_full(failure, self.target.parent) or failed from failure
        finally:
            with self._held:
                self._clean(keep_work=not published)
        full = disk_full(error, self.target.parent)
        if full is not None:
            raise full from error

    def _check_target(self) -> None:
        check_target(self.target, overwrite=self._overwrite, shown=self.shown)

    def _restore(self) -> None:
        """Finish or undo what a kill between the two renames of `_publish` left."""
        if self._old.exists() and not self.target.exists():
            self._old.rename(self.target)

    def _prepare(self) -> None:
        _remove(self._old)
        _remove(self.folder)
        key_file = self.work / _KEY_NAME
        if self.work.exists() and (
            not key_file.is_file() or key_file.read_text(encoding="utf-8") != self._key
        ):
            _remove(self.work)
        self.work.mkdir(exist_ok=True)
        key_file.write_text(self._key, encoding="utf-8")
        self.folder.mkdir()

    def _publish(self) -> None:
        if self._result is None:
            raise WorkError(f"the step that writes {self.shown} ended without a result; nothing is kept")
        readable = 0o666 & ~_umask()
        for path in self.folder.rglob("*"):
            if path.is_file():
                path.chmod(readable)  # some libraries write through private temporary files
            _sync(path)
        text = self._result.model_dump_json(indent=2) + "\n"
        write_text_atomic(self.folder / RESULT_NAME, text)
        _sync(self.folder)
        replaced = self.target.exists()
        if replaced:
            self.target.rename(self._old)
        try:
            self.folder.rename(self.target)
        except OSError:
            if replaced:
                self._old.rename(self.target)
            raise
        _sync(self.target.parent)

    def _clean(self, *, keep_work: bool) -> None:
        """Leave nothing but work worth resuming."""
        _remove(self.folder)
        if self.target.exists():
            _remove(self._old)
        resumable = self.work.is_dir() and any(entry.name != _KEY_NAME for entry in self.work.iterdir())
        if not (keep_work and resumable):
            _remove(self.work)


def read_result(folder: Path) -> StepResult:
    """Return the record of a step folder.

    Raises:
        InputError: The folder is missing or incomplete, or its record cannot be read.
    """
    file = folder / RESULT_NAME
    if not folder.is_dir():
        raise InputError(f"no folder at {folder}")
    if not file.is_file():
        raise InputError(
            f"{folder} is incomplete: it has no {RESULT_NAME}",
            hint="Run the command that writes it again; it resumes.",
        )
    try:
        content = json.loads(file.read_bytes())
        version = content.get("schema_version") if isinstance(content, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise InputError(
                f"{file} has schema version {version}; this compressbert reads up to {SCHEMA_VERSION}",
                hint="Update compressbert.",
            )
        return StepResult.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{file} is not a step's record: {where}: {first['msg']}") from error
    except ValueError as error:  # not JSON, or not UTF-8
        raise InputError(f"{file} is not JSON: {error}") from error


def write_json_atomic(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON; a reader sees the old file or the new one. NaN raises ValueError."""
    write_text_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text_atomic(path: Path, text: str) -> None:
    """Write ``text`` to a file beside ``path``, flush it to the disk and rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def disk_full(error: BaseException | None, folder: Path) -> WorkError | None:
    """Return the error to report if ``error`` means that the disk is full, else None.

    Libraries written in Rust report it as text of their own exceptions, hence the look at the message.
    """
    if error is None or isinstance(error, WorkError):
        return None
    code = error.errno if isinstance(error, OSError) else None
    if code not in (errno.ENOSPC, errno.EDQUOT) and "os error 28" not in str(error):
        return None
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    return WorkError(
        f"disk full: {free:,} bytes free at {folder}", hint="Make room; the same command resumes."
    )


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        # Work is kept in it, another run has just begun in it, or it was never made.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise

"""A lock the operating system holds: two runs cannot write one folder, and a dead process holds nothing."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from compressbert.errors import ConfigError


@contextmanager
def file_lock(file: Path, *, what: Path) -> Iterator[None]:
    """Hold ``file`` locked while the block runs, then remove it. ``what`` names the thing in messages.

    Raises:
        ConfigError: Another process holds it (the message says which).
    """
    descriptor = _acquire(file, what)
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            file.unlink()  # while still held, so that nobody can lock a file that is about to go
        os.close(descriptor)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold the right to write ``folder`` while the block runs; the lock file lies beside it.

    Raises:
        ConfigError: Another process holds it.
    """
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(folder.parent / f".{folder.name}.lock", what=folder):
        yield


def _acquire(file: Path, what: Path) -> int:
    while True:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:  # the holder removed the folder after we made it
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode().strip()
            os.close(descriptor)
            raise ConfigError(
                f"{what} is being written by another process" + (f" (pid {holder})" if holder else ""),
                hint="Wait for it to end, or choose another --output.",
            ) from None
        if _is_current(descriptor, file):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            return descriptor
        os.close(descriptor)  # it was removed by its last holder between our open and our lock


def _is_current(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False

"""Folders of flat arrays in a cache: appended while they are made, complete or absent afterwards, checked
when opened.

A folder is written under another name and renamed; its manifest is written last. One whose files do not have
the manifest's sizes and checksums is not opened, and the caller makes it anew.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_MANIFEST = "manifest.json"
_STALE_SECONDS = 24 * 3600
_READ_BYTES = 1 << 20


class ArrayWriter:
    """Appends rows to named arrays on disk. ``facts`` are stored with them."""

    def __init__(self, folder: Path, files: ExitStack) -> None:
        self.facts: dict[str, Any] = {}
        self._folder, self._open = folder, files
        self._files: dict[str, IO[bytes]] = {}
        self._arrays: dict[str, dict[str, Any]] = {}

    def append(self, name: str, values: NDArray[Any]) -> None:
        """Add ``values`` along the first axis of array ``name``; the first call fixes type and other axes."""
        values = np.ascontiguousarray(values)
        if name not in self._files:
            self._files[name] = self._open.enter_context((self._folder / f"{name}.bin").open("wb"))
            self._arrays[name] = {"dtype": values.dtype.str, "shape": [0, *values.shape[1:]], "crc32": 0}
        array = self._arrays[name]
        raw = values.astype(array["dtype"], casting="safe", copy=False).tobytes()
        self._files[name].write(raw)
        array["shape"][0] += len(values)
        array["crc32"] = zlib.crc32(raw, array["crc32"])

    def finish(self) -> None:
        """Write the manifest, once every array is on disk."""
        for file in self._files.values():
            file.flush()
        text = json.dumps({"arrays": self._arrays, "facts": self.facts}, indent=1)
        (self._folder / _MANIFEST).write_text(text, encoding="utf-8")


@contextmanager
def store_arrays(folder: Path) -> Iterator[ArrayWriter]:
    """Make ``folder``: a failure or a kill inside the block leaves nothing under its name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(folder)
    temporary = folder.with_name(f"{folder.name}.partial-{os.getpid()}-{time.monotonic_ns()}")
    temporary.mkdir()
    try:
        with ExitStack() as files:
            writer = ArrayWriter(temporary, files)
            yield writer
            writer.finish()
        _put(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put(temporary: Path, folder: Path) -> None:
    """Rename into place. Where another process was faster its folder stays, unless it is damaged."""
    if folder.exists() and open_arrays(folder) is None:
        shutil.rmtree(folder, ignore_errors=True)
    try:
        temporary.rename(folder)
    except OSError:
        if open_arrays(folder) is None:
            raise


def _remove_stale(folder: Path) -> None:
    """Clear what killed processes left of this folder, once it is a day old."""
    for left in folder.parent.glob(f"{folder.name}.partial-*"):
        if time.time() - left.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


def open_arrays(folder: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
    """The arrays of a folder, memory-mapped and read-only, and its facts; None if it is absent, damaged or
    incomplete.
    """
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        arrays = {
            name: _open_array(folder / f"{name}.bin", **facts) for name, facts in manifest["arrays"].items()
        }
        return arrays, dict(manifest["facts"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _open_array(path: Path, *, dtype: str, shape: list[int], crc32: int) -> NDArray[Any]:
    found, size = 0, 0
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            found, size = zlib.crc32(chunk, found), size + len(chunk)
    if found != crc32 or size != np.dtype(dtype).itemsize * int(np.prod(shape)):
        raise ValueError(f"{path}: not what was written")
    return np.memmap(path, dtype=dtype, mode="r", shape=tuple(shape))

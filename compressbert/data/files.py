"""Local data files: which formats are read, how their bytes are opened, and where derived data is kept."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
from pathlib import Path
from typing import IO, Literal, cast

from compressbert.errors import InputError, WorkError

Format = Literal["csv", "tsv", "json", "parquet", "txt"]
SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".txt": "txt",
}
_READ_BYTES = 1 << 20


def cache_folder() -> Path:
    """Where read and tokenized data is kept: ``$COMPRESSBERT_CACHE``, else ``~/.cache/compressbert``."""
    configured = os.environ.get("COMPRESSBERT_CACHE")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "compressbert"


def format_of(path: Path) -> Format:
    """The format a file name stands for; a trailing ``.gz`` is looked through. InputError for any other
    name.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    if suffixes and suffixes[-1] in SUFFIXES:
        return SUFFIXES[suffixes[-1]]
    raise InputError(
        f"{path}: expected a data file ending in {', '.join(SUFFIXES)} (or one of these and .gz)",
        hint="Rename the file after its format, or convert it.",
    )


def is_gzip(path: Path) -> bool:
    """Whether the file's name says that it is compressed."""
    return path.suffix.lower() == ".gz"


def open_bytes(path: Path) -> IO[bytes]:
    """The decompressed bytes of a file."""
    return cast(IO[bytes], gzip.open(path, "rb")) if is_gzip(path) else path.open("rb")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as it lies on disk, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def disk_full(error: BaseException) -> WorkError | None:
    """The error to report if ``error``, or what caused it, is a full disk under the cache; else None."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return WorkError(
                f"no space left for the cache in {cache_folder()}",
                hint="Free some space, or point COMPRESSBERT_CACHE to another disk.",
            )
        cause = cause.__cause__
    return None


def key_of(*parts: object) -> str:
    """A short name for everything a piece of derived data depends on: equal parts, equal name."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def check_readable(path: Path) -> None:
    """Refuse a data file that is missing, is a folder, or is empty (InputError)."""
    if not path.exists():
        raise InputError(
            f"data file {path}: not found",
            hint="Check the path; for a data set on the hub, set data.hub (hub: glue/sst2).",
        )
    if not path.is_file():
        raise InputError(f"data file {path}: expected a file, found a folder", hint="Name one file in it.")
    try:
        with open_bytes(path) as file:
            empty = not file.read(1)
    except (OSError, EOFError) as error:
        raise InputError(f"data file {path}: cannot be opened: {error}", hint="Check the file.") from error
    if empty:
        raise InputError(f"data file {path}: is empty", hint="Give a file with at least one row.")

"""SHA-256 of files, folders and settings: what keys and records identify things by."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from compressbert.errors import InputError

RESULT_NAME = "result.json"  # the record of a folder, not part of what it holds
CARD_NAME = "README.md"  # a description of it, which people edit and later measurements extend


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes.

    Raises:
        InputError: The file is missing or cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def files_of(folder: Path) -> list[str]:
    """Every file below ``folder`` except its record and its card, as sorted relative paths with forward slashes.

    Raises:
        InputError: There is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"no folder at {folder}")
    names = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return sorted(name for name in names if name not in (RESULT_NAME, CARD_NAME))


def hash_files(folder: Path) -> dict[str, str]:
    """Relative path to digest of every file below ``folder`` except its record and its card."""
    return {name: sha256_file(folder / name) for name in files_of(folder)}


def sha256_folder(folder: Path) -> str:
    """Hex digest of a folder: the names, lengths and contents of its files, its record and card left out."""
    digest = hashlib.sha256()
    for name, content in hash_files(folder).items():
        size = (folder / name).stat().st_size
        digest.update(f"{len(name.encode())}:{name}:{size}:{content}\n".encode())
    return digest.hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values, equal text. NaN and infinity raise ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_json(value: Any) -> str:
    """Hex digest of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()

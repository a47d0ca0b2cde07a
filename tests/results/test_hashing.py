"""Digests change with what they stand for and with nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressbert.errors import InputError
from compressbert.results.hashing import canonical_json, hash_files, sha256_file, sha256_folder, sha256_json


def make(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def test_a_file_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(InputError, match="cannot read"):
        sha256_file(tmp_path / "absent")


def test_a_folder_by_names_and_contents_without_its_record(tmp_path: Path) -> None:
    one = sha256_folder(make(tmp_path / "one", {"a": "x", "sub/b": "y"}))
    assert sha256_folder(make(tmp_path / "same", {"sub/b": "y", "a": "x", "result.json": "{}"})) == one
    others = [{"a": "x", "sub/b": "z"}, {"a": "x", "b": "y"}, {"a": "x"}, {"a": "x", "sub/b": "y", "c": ""}]
    digests = {sha256_folder(make(tmp_path / f"other{i}", files)) for i, files in enumerate(others)}
    assert len(digests | {one}) == 5
    assert sorted(hash_files(tmp_path / "one")) == ["a", "sub/b"]
    with pytest.raises(InputError, match="no folder at"):
        sha256_folder(tmp_path / "absent")


def test_a_record_below_the_top_counts(tmp_path: Path) -> None:
    before = sha256_folder(make(tmp_path / "run", {"step/result.json": "1"}))
    assert sha256_folder(make(tmp_path / "run", {"step/result.json": "2"})) != before


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=6))
def test_settings_whatever_the_order_of_their_keys(value: dict[str, object]) -> None:
    assert sha256_json(dict(reversed(value.items()))) == sha256_json(value)


def test_canonical_json_by_hand() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "é"}) == '{"a":"é","b":[1,2.5,null]}'
    with pytest.raises(ValueError, match="Out of range"):
        canonical_json({"a": float("inf")})

"""Keys: what makes a step run again."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from compressbert.config.schema import DataConfig
from compressbert.pipeline.keys import CODE, PACKAGE, data_fingerprint
from tests.tiny import toy_rows, write_rows

METHOD_FILES = sorted(PACKAGE.glob("methods/*/[!_]*.py"))


def fingerprint(file: Path, **settings: Any) -> dict[str, str]:
    return data_fingerprint(DataConfig.model_validate({"train": str(file), **settings}))


@pytest.mark.parametrize(
    "settings",
    [{"max_length": 64}, {"max_train_rows": 5}, {"metric": "f1"}, {"labels": ("a", "b")},
     {"columns": {"text": "sentence"}}, {"task": "regression"}],
    ids=lambda settings: next(iter(settings)),
)  # fmt: skip
def test_how_data_are_read_is_part_of_a_key(tmp_path: Path, settings: dict[str, Any]) -> None:
    file = write_rows(tmp_path / "rows.jsonl", toy_rows(6))
    assert fingerprint(file, **settings) != fingerprint(file)


def test_where_data_lie_is_not(tmp_path: Path) -> None:
    rows = toy_rows(6)
    one, other = (write_rows(tmp_path / name / "rows.jsonl", rows) for name in ("here", "there"))
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(one) != fingerprint(write_rows(tmp_path / "more.jsonl", toy_rows(7)))


@pytest.mark.parametrize("file", METHOD_FILES, ids=lambda file: file.stem)
def test_all_code_that_a_method_builds_on_is_in_its_key(file: Path) -> None:
    imported = {
        node.module.removeprefix("compressbert.").replace(".", "/")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("compressbert.")
    }
    bare = ("config", "errors", "progress", "results")  # settings are in the key; the rest changes no weights
    covered = tuple(part.removesuffix(".py") for part in CODE["compress"])
    own = str(file.relative_to(PACKAGE).with_suffix(""))
    assert {module for module in imported if not module.startswith((*bare, *covered, own))} == set()

"""The registry reads what a method's file says without running it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from compressbert.errors import ConfigError
from compressbert.methods.registry import (
    FOLDER,
    config_class,
    find_method,
    list_methods,
    load_method,
    read_method,
    settings_outline,
)

METHOD = '''"""Halving: keep every other thing.

Paper: A. Author. Halving. Venue 2020. arXiv 2001.00001
Paper: B. Author. Another. arXiv 2001.00002
"""

import a_module_that_does_not_exist

NEEDS = ("data", "teacher")
SURVEY = {"compression": 2.0}
TRAIN_DEFAULTS: dict[str, float] = {"epochs": 1.0}


class Config(MethodConfig):
    """Settings."""

    keep: float = 0.5
    scope: str = "global"


def compress(model, config, run):
    return model
'''


def write(folder: Path, text: str, name: str = "prune/halving.py") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def test_a_file_says_all_about_its_method(tmp_path: Path) -> None:
    info = read_method(write(tmp_path, METHOD))
    assert (info.family, info.name, info.summary) == ("prune", "halving", "Halving: keep every other thing.")
    assert info.paper == "A. Author. Halving. Venue 2020. arXiv 2001.00001"
    assert (info.needs, info.survey, info.train_defaults) == (
        ("data", "teacher"),
        {"compression": 2.0},
        {"epochs": 1.0},
    )
    assert info.settings == ("keep", "scope")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def broken(:", "is not valid Python"),
        ("x = 1\n", "has no docstring"),
        (METHOD.replace("class Config", "class Settings"), "defines no Config"),
        (METHOD.replace('("data", "teacher")', "make()"), "NEEDS must be a plain literal"),
    ],
)
def test_a_broken_file_fails_by_name(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_method(write(tmp_path, text))
    assert message in caught.value.message
    assert "halving.py" in caught.value.message


def test_every_file_of_a_family_is_listed() -> None:
    files = {file.stem for file in FOLDER.glob("*/*.py") if not file.name.startswith("_")}
    listed = list_methods()
    assert {info.name for info in listed} == files
    assert len({info.name for info in listed}) == len(listed)
    assert all(info.summary and info.paper for info in listed)


def test_listing_imports_no_method() -> None:
    code = (
        "import sys; from compressbert.methods.registry import list_methods; assert list_methods(); "
        "print([name for name in sys.modules if name == 'torch' or 'methods.prune' in name])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout == "[]\n"


@pytest.mark.parametrize(
    ("name", "family", "message"),
    [
        ("michell", None, "unknown method 'michell' (did you mean 'michel'?)"),
        ("michell", "prune", "unknown prune method 'michell' (did you mean 'michel'?)"),
        ("michel", "quantize", "'michel' belongs to prune, not to quantize"),
        ("zzz", "quantize", "unknown quantize method 'zzz'; known: dynamic_int8"),
    ],
)
def test_a_name_that_is_none_suggests_one(name: str, family: str | None, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_method(name, family)
    assert caught.value.message == message


@pytest.mark.parametrize("info", list_methods(), ids=lambda info: info.name)
def test_what_was_read_is_what_is_defined(info: object) -> None:
    found = find_method(info.name, info.family)  # type: ignore[attr-defined]
    module = load_method(found)
    schema = config_class(found)
    assert tuple(schema.model_fields) == found.settings
    constants = (tuple(module.NEEDS), module.SURVEY, module.TRAIN_DEFAULTS)
    assert constants == (
        found.needs,
        found.survey,
        found.train_defaults,
    )
    outline = settings_outline(found)
    outline.model_validate(schema().model_dump())
    with pytest.raises(ValidationError):
        outline.model_validate({"no_such_setting": 1})

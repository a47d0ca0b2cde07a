"""Environments of loaders: complete or absent, made again when the tested versions change, failures with the reason."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import pytest

from compressbert.errors import ConfigError, InputError, WorkError
from compressbert.export import environments

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COMPRESSBERT_LOADERS", str(tmp_path))
    return tmp_path


def stand_in_for_pip(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Environments whose interpreter is a shell script."""

    def create(folder: Path, *, with_pip: bool) -> None:
        python = folder / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\n{program}\n")
        python.chmod(0o755)

    monkeypatch.setattr("venv.create", create)


def test_the_oldest_onnxruntime_is_that_of_the_bounds() -> None:
    dependencies = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    (bound,) = [text for text in dependencies if text.startswith("onnxruntime>=")]
    assert environments.oldest_onnxruntime() == bound.removeprefix("onnxruntime>=") + ".0"
    assert environments.known()["onnxruntime-oldest"].packages[0][0] == bound.replace(">=", "==") + ".0"


def test_the_current_folder_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMPRESSBERT_LOADERS")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".loaders" / "optimum").mkdir(parents=True)
    (tmp_path / ".loaders" / "optimum" / environments.STAMP).write_text(environments.stamp_of("optimum"))
    assert environments.find("optimum") is None


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_an_environment_is_made_once_and_again_when_versions_change(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_for_pip(monkeypatch, f'echo "$@" >> {place}/calls')
    for _ in range(2):
        folder = environments.make("optimum")
    calls = (place / "calls").read_text().splitlines()
    assert [call.split()[-1] for call in calls] == ["torch==2.13.0", "safetensors==0.8.0"]
    assert environments.find("optimum") == folder
    stamp = folder / environments.STAMP
    stamp.write_text(json.dumps(json.loads(stamp.read_text()) | {"packages": [["old"]]}))
    assert environments.find("optimum") is None
    environments.make("optimum")
    assert len((place / "calls").read_text().splitlines()) == 4


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_an_installer_that_fails_leaves_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_for_pip(monkeypatch, "echo 'No matching distribution' >&2; exit 1")
    with pytest.raises(WorkError, match="No matching distribution"):
        environments.make("optimum")
    assert environments.find("optimum") is None
    assert environments.main(["optimum"]) == 4


def test_node_missing_and_unknown_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(InputError, match="node and npm are needed"):
        environments.make("transformers.js")
    with pytest.raises(ConfigError, match="No loader's environment is called tensorflow") as failure:
        environments.make("tensorflow")
    assert "optimum" in failure.value.hint
    assert environments.main(["tensorflow"]) == 2

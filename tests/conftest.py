"""What every test shares: no network, one thread, its own cache."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compressbert import progress

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _nobody_listens() -> None:
    """No test hears what the command line of another one set up."""
    progress.listen(progress.Silent())


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tokenized data of tests out of the user's cache."""
    monkeypatch.setenv("COMPRESSBERT_CACHE", str(tmp_path / "cache"))


def _real(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value or not Path(value).is_dir():
        pytest.skip(f"{variable} does not point to a folder")
    return Path(value)


@pytest.fixture
def real_data() -> Path:
    """Folder of real data sets (slow tests)."""
    return _real("COMPRESSBERT_DATA")


@pytest.fixture
def real_models() -> Path:
    """Folder of real models (slow tests)."""
    return _real("COMPRESSBERT_MODELS")

"""Models that have learned the toy task, trained once for all tests of methods."""

from __future__ import annotations

import pytest

from compressbert.model.handle import Model
from tests.methods.toy import trained


@pytest.fixture(scope="session")
def _learned(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return trained(tmp_path_factory.mktemp("learned"))[0]


@pytest.fixture
def learned(_learned: Model) -> Model:
    """A tiny BERT that has learned the toy task; a copy of its own for each test."""
    return _learned.copy()

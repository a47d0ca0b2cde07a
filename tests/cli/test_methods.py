"""Every method has a page that says in words what the survey found and how it trains."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from compressbert.cli.app import app
from compressbert.methods.registry import MethodInfo, list_methods


@pytest.mark.parametrize("info", list_methods(), ids=lambda info: info.name)
def test_every_method_has_a_page_in_words(info: MethodInfo) -> None:
    page = CliRunner().invoke(app, ["methods", info.name], env={"COLUMNS": "300"}).stdout
    lines = page.splitlines()
    (survey,) = [line for line in lines if line.startswith("survey")]
    (training,) = [line for line in lines if line.startswith("training")]
    row = info.survey or {"row": "no row"}
    assert row["row"] in survey
    assert all(f"train.{name} " in training for name in info.train_defaults)
    assert "{" not in survey + training

"""Runs the command line in this process, with stand-ins for the work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from compressbert.cli.app import app
from compressbert.results.environment import environment
from compressbert.results.record import MetricResult, ModelFacts, StepResult


def invoke(*arguments: object, stdin: str | None = None) -> Result:
    wide = {"COLUMNS": None}  # tables are as wide as in a pipe, whatever the terminal of the tests
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin, env=wide)


def stand_in(monkeypatch: pytest.MonkeyPatch, module: str, **functions: Callable[..., Any]) -> None:
    """Replace a module by one that holds ``functions``, so that nothing heavy is imported."""
    replacement = ModuleType(module)
    for name, function in functions.items():
        setattr(replacement, name, function)
    monkeypatch.setitem(sys.modules, module, replacement)


class Step:
    """Stands in for a step's function: remembers what it was called with and returns a record, or raises."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __call__(self, *arguments: Any, **options: Any) -> StepResult:
        self.calls.append((arguments, options))
        if self.error is not None:
            raise self.error
        return step_result()


def step_result() -> StepResult:
    model = ModelFacts(
        parameters=1000, nonzero_parameters=900, encoder_parameters=600, bytes_on_disk=4_200_000,
        bytes_by_component={"embeddings": 2_000_000, "attention": 2_200_000, "ffn": 0}, layers=2,
        heads_per_layer=(3, 1), ffn_per_layer=(64, 64), hidden=32, macs_per_token=5,
    )  # fmt: skip
    quality = {"accuracy": MetricResult(value=0.8911, low=0.87, high=0.9117, examples=872)}
    return StepResult(
        step="out", command="prune", config={}, seed=0, quality=quality,
        primary_metric="accuracy", model=model, environment=environment(), seconds=12.34, files={},
    )  # fmt: skip

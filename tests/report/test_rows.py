from __future__ import annotations

import math
from typing import Any

import pytest

from compressbert.errors import ConfigError
from compressbert.report.rows import RowInput, build, components_of
from compressbert.results.measured import CandidateTimings, Comparison
from compressbert.results.record import Interval, MemoryFacts, MetricResult, ModelFacts, StepResult
from tests.report.examples import ENVIRONMENT, around, cell


def facts(size: int, encoder: int) -> ModelFacts:
    return ModelFacts(
        parameters=1000,
        nonzero_parameters=900,
        encoder_parameters=600,
        bytes_on_disk=size,
        layers=2,
        bytes_by_component={
            "embeddings": size - encoder,
            "attention": encoder // 4,
            "ffn": encoder - encoder // 4,
        },
        heads_per_layer=(4, 2),
        ffn_per_layer=(64, 64),
        hidden=32,
        macs_per_token=5,
    )


def result(size: int = 1000, encoder: int = 400, accuracy: float = 0.9, **more: Any) -> StepResult:
    quality = {"accuracy": MetricResult(value=accuracy, low=accuracy - 0.1, high=accuracy + 0.1, examples=50)}
    settings: dict[str, Any] = {"quality": quality, "model": facts(size, encoder)} | more
    return StepResult(
        step="s",
        command="c",
        config={},
        seed=0,
        primary_metric="accuracy",
        environment=ENVIRONMENT,
        seconds=3.0,
        files={},
        **settings,
    )


def timings(**ratios: Interval) -> CandidateTimings:
    return CandidateTimings(
        name="n",
        path="p",
        runtime="onnxruntime",
        threads=1,
        load_ms=5.0,
        cells=(cell(32, 1.0), cell(None, 2.0)),
        speedup_by_cell={"1x32" if name == "short" else name: ratio for name, ratio in ratios.items()},
        memory=MemoryFacts(peak_rss_mb=80.0),
    )


def comparison(**more: Any) -> Comparison:
    settings: dict[str, Any] = {
        "retained": around(0.97),
        "drop": around(0.02),
        "flips": (3, 5, 9),
        "mcnemar_p": 0.3,
    } | more
    return Comparison(metric="accuracy", **settings)


def test_rows_join_what_is_known() -> None:
    speed, fixed = around(4.0), around(3.0)
    report = build(
        "T",
        "a",
        [
            RowInput("a", "finetune", result(1000, 400), timings=timings()),
            RowInput(
                "b",
                "prune",
                result(250, 40),
                method="michel",
                folder="02",
                comparison=comparison(),
                timings=timings(data=speed, short=fixed),
                survey={"compression": 2},
                parent="a",
            ),
        ],
        environment=ENVIRONMENT,
        config={"x": 1},
        notes=("busy",),
    )
    first, second = report.rows
    assert (first.compression, first.compression_encoder, first.retained, first.speedup) == (
        1.0,
        1.0,
        None,
        None,
    )
    assert (second.compression, second.compression_encoder) == (4.0, 10.0)
    assert (second.speedup, second.speedup_by_cell) == (speed, {"data": speed, "1x32": fixed})
    assert (second.retained, second.quality_drop, second.flips, second.mcnemar_p) == (
        around(0.97),
        around(0.02),
        3,
        0.3,
    )
    assert (second.method, second.folder, second.survey) == ("michel", "02", {"compression": 2})
    assert second.memory == MemoryFacts(peak_rss_mb=80.0)
    assert [c.length for c in second.latency] == [32, None]
    assert (second.parameters, second.heads_per_layer, second.seconds) == (1000, (4, 2), 3.0)
    assert (first.parent, second.parent) == (None, "a")
    assert (report.config, report.notes) == ({"x": 1}, ("busy",))
    assert report.model_validate_json(report.model_dump_json()) == report


def test_without_measurements_the_rows_say_so() -> None:
    report = build("T", "a", [RowInput("a", "evaluate", result(model=None))], environment=ENVIRONMENT)
    (row,) = report.rows
    absent = (
        row.retained,
        row.speedup,
        row.flips,
        row.compression,
        row.compression_encoder,
        row.bytes_on_disk,
        row.memory,
    )
    assert absent == (None,) * 7
    assert row.latency == ()
    assert row.quality["accuracy"].value == 0.9


def test_the_steps_own_latency_shows_where_nothing_else_was_timed() -> None:
    own = result(latency=(cell(16, 1.5),), memory=MemoryFacts(peak_rss_mb=60.0))
    (row,) = build("T", "a", [RowInput("a", "benchmark", own)], environment=ENVIRONMENT).rows
    assert row.latency == (cell(16, 1.5),)
    assert row.memory == MemoryFacts(peak_rss_mb=60.0)


def test_figures_that_are_not_numbers_are_absent() -> None:
    broken = Interval(value=math.nan, low=math.nan, high=math.nan)
    quality = {"accuracy": MetricResult(value=math.nan, low=0, high=1, examples=1)}
    entry = RowInput(
        "a", "evaluate", result(quality=quality), comparison=comparison(retained=broken, drop=broken)
    )
    (row,) = build("T", "a", [entry], environment=ENVIRONMENT).rows
    assert (row.quality, row.retained, row.quality_drop) == ({}, None, None)


def test_unknown_baseline_lists_the_rows() -> None:
    with pytest.raises(ConfigError, match=r"'teacher'.*the rows are: a"):
        build("T", "teacher", [RowInput("a", "finetune", result())], environment=ENVIRONMENT)


def test_components_are_those_with_bytes() -> None:
    rows = build("T", "a", [RowInput("a", "finetune", result(100, 0))], environment=ENVIRONMENT).rows
    assert components_of(rows) == ("embeddings",)


def test_headline_speedup_is_the_datas_own() -> None:
    assert timings(data=around(2.0), short=around(9.0)).speedup == around(2.0)
    only = timings(short=around(9.0)).model_copy(update={"cells": (cell(32, 1.0),)})
    assert only.speedup == around(9.0)
    assert timings().speedup is None

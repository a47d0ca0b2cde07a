"""`export.tune` writes every form, keeps the fastest one, and records what it saw."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import pytest

from compressbert import errors
from compressbert.config.schema import BenchmarkSettings, ExportStepConfig
from compressbert.model import checkpoint
from compressbert.pipeline.steps import tune
from compressbert.pipeline.steps.export import export
from compressbert.results.measured import CandidateTimings
from compressbert.results.record import Interval, LatencyCell, MemoryFacts
from compressbert.results.store import read_result
from tests.export.stand import all_nodes, tiny_model


def configured(folder: Path, **settings: object) -> ExportStepConfig:
    checkpoint.save(tiny_model("bert"), folder / "model")
    return ExportStepConfig.model_validate(
        {
            "model": {"path": str(folder / "model")},
            "export": {"tune": True, **settings},
            "output": str(folder / "out"),
        }
    )


def measured_as(monkeypatch: pytest.MonkeyPatch, speeds: Mapping[str, float]) -> list[str]:
    """Let the timings be these speeds against the default form; returns the names of what was timed."""
    seen: list[str] = []

    def benchmark(
        files: Mapping[str, Path], settings: BenchmarkSettings, _: object
    ) -> list[CandidateTimings]:
        assert all(file.is_file() for file in files.values())
        seen.extend(files)
        cells = tuple(
            LatencyCell(
                runtime="onnxruntime",
                threads=1,
                batch=batch,
                length=length,
                p50_ms=1,
                p95_ms=1,
                low=1,
                high=1,
                runs=1,
            )
            for batch, length in settings.cells
        )
        return [
            CandidateTimings(
                name=name, path=str(file), runtime="onnxruntime", threads=1, load_ms=1, cells=cells,
                memory=MemoryFacts(peak_rss_mb=1),
                speedup_by_cell={
                    cell: Interval(value=speeds.get(name, 1), low=1, high=1)
                    for cell in ("1x16", "8x128")
                    if name != "default"
                },
            )
            for name, file in files.items()
        ]  # fmt: skip

    monkeypatch.setattr(tune, "benchmark", benchmark)
    return seen


def test_the_fastest_form_is_written_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = measured_as(monkeypatch, {"attention kernel": 1.2, "qkv joined": 1.1, "norm skip": 0.8})
    result = export(configured(tmp_path))
    assert seen == ["default", "rows padded", "attention kernel", "qkv joined", "norm skip"]
    operators = {node.op_type for node in all_nodes(onnx.load(str(tmp_path / "out/onnx/model.onnx")).graph)}
    assert "MultiHeadAttention" in operators
    assert result.tuning is not None
    assert result.tuning.chosen == {
        "rows": "packed", "attention": "kernel", "qkv": "apart", "norm": "sum",
    }  # fmt: skip
    assert [form.speedup for form in result.tuning.forms] == pytest.approx([1, 1, 1.2, 1.1, 0.8])
    assert read_result(tmp_path / "out") == result


def test_a_form_that_is_hardly_faster_does_not_replace_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured_as(monkeypatch, {"qkv joined": 1.01})
    result = export(configured(tmp_path, precision="int8"))
    assert result.tuning is not None
    assert result.tuning.chosen == result.tuning.forms[0].form


def test_nothing_is_timed_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = measured_as(monkeypatch, {})
    assert export(configured(tmp_path, tune=False)).tuning is None
    assert seen == []


def test_there_is_nothing_to_choose_without_lossless_speed_ups(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match=r"export\.tune"):
        export(configured(tmp_path, optimize=False))

"""`export.tune` writes every form, keeps the fastest one, and records what it saw."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import pytest

from compressbert import errors
from compressbert.config.schema import BenchmarkSettings, ExportStepConfig
from compressbert.export.graph import every_node
from compressbert.measure.candidate import Threads
from compressbert.model import checkpoint
from compressbert.pipeline.steps import tune, tune_threads
from compressbert.pipeline.steps.export import export
from compressbert.results.measured import CandidateTimings
from compressbert.results.record import Interval, LatencyCell, MemoryFacts
from compressbert.results.store import read_result
from tests.export.stand import tiny_model


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
    monkeypatch.setattr(tune_threads, "cores", lambda: 1)
    return seen


def test_the_fastest_form_is_written_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = measured_as(monkeypatch, {"attention kernel": 1.2, "qkv joined": 1.1, "norm skip": 0.8})
    result = export(configured(tmp_path))
    assert seen == [
        "default", "rows padded", "attention kernel", "qkv joined", "norm skip", "texts together",
    ]  # fmt: skip
    operators = {node.op_type for node in every_node(onnx.load(str(tmp_path / "out/onnx/model.onnx")).graph)}
    assert "MultiHeadAttention" in operators
    assert result.tuning is not None
    assert result.tuning.chosen == {
        "rows": "packed", "attention": "kernel", "qkv": "apart", "norm": "sum", "texts": "grouped",
    }  # fmt: skip
    assert [form.speedup for form in result.tuning.forms] == pytest.approx([1, 1, 1.2, 1.1, 0.8, 1])
    assert read_result(tmp_path / "out") == result


def test_threads_are_tuned_for_the_form_that_is_kept_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured_as(monkeypatch, {"attention kernel": 1.2})
    monkeypatch.setattr(tune_threads, "cores", lambda: 3)
    asked: dict[str, Threads] = {}

    def benchmark(
        files: Mapping[str, Path], settings: BenchmarkSettings, _: object, threads: Mapping[str, Threads]
    ) -> list[CandidateTimings]:
        (file,) = set(files.values())
        operators = {node.op_type for node in every_node(onnx.load(str(file)).graph)}
        assert "MultiHeadAttention" in operators
        asked.update(threads)
        speeds = {"2 threads": (0.9, 1.9), "3 threads, spinning": (1.01, 2.0)}
        return [
            CandidateTimings(
                name=name, path=str(file), runtime="onnxruntime", threads=threads[name].count, load_ms=1, cells=(),
                memory=MemoryFacts(peak_rss_mb=1),
                speedup_by_cell={
                    cell: Interval(value=value, low=1, high=1)
                    for cell, value in zip(("1x16", "8x128"), speeds.get(name, (0.5, 0.5)), strict=True)
                    if name != "1 threads"
                },
            )
            for name in files
        ]  # fmt: skip

    monkeypatch.setattr(tune_threads, "benchmark", benchmark)
    tuning = export(configured(tmp_path)).tuning
    assert list(asked.values()) == [
        Threads(1), Threads(2), Threads(2, spinning=True), Threads(3), Threads(3, spinning=True),
    ]  # fmt: skip
    assert tuning is not None
    assert tuning.session is not None
    assert tuning.session.model_dump() == {"intra_op_num_threads": 3, "allow_spinning": True}
    # Where a setting with more threads gains less than 2 %, the simpler one is named.
    assert {cell: found.intra_op_num_threads for cell, found in tuning.session_by_cell.items()} == {
        "1x16": 1, "8x128": 3,
    }  # fmt: skip
    assert [timed.speedup for timed in tuning.sessions] == pytest.approx(
        [1, (0.9 * 1.9) ** 0.5, 0.5, 0.5, (1.01 * 2) ** 0.5]
    )


@pytest.mark.parametrize(
    ("cores", "counts"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (12, [1, 2, 4, 8, 12])]
)
def test_thread_counts_are_powers_of_two_and_all_cores(cores: int, counts: list[int]) -> None:
    assert tune_threads.thread_counts(cores) == counts


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

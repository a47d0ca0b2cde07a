from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compressbert import progress
from compressbert.config.schema import BenchmarkSettings
from compressbert.errors import ConfigError, InputError, WorkError
from compressbert.measure import cells, worker
from compressbert.measure.candidate import Threads
from compressbert.measure.cells import cells_to_time, typical_lengths
from compressbert.measure.client import WorkerProcess
from compressbert.measure.latency import benchmark
from compressbert.measure.runners import Limits
from compressbert.measure.worker import Worker, random_inputs
from compressbert.results.measured import cell_name
from tests.measure.graphs import VOCABULARY, export_folder


@pytest.fixture
def notes() -> Iterator[list[str]]:
    """What was noted while the test ran."""
    heard: list[str] = []

    class Ear(progress.Silent):
        def note(self, text: str) -> None:
            heard.append(text)

    progress.listen(Ear())
    yield heard
    progress.listen(progress.Silent())


def converse(*requests: dict[str, Any], program: str = "") -> list[dict[str, Any]]:
    """Answers of a real worker process; ``program`` runs in it first."""
    code = f"{program}\nfrom compressbert.measure.worker import main\nmain()"
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    done = subprocess.run(
        [sys.executable, "-c", code], input=lines, capture_output=True, text=True, check=True, env=os.environ
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are not listed here")
def test_all_threads_are_bound_and_only_once_the_artefact_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[Any] = []
    opening = worker.open_runner

    def opened(*given: Any, **named: Any) -> Any:
        steps.append("opened")
        return opening(*given, **named)

    monkeypatch.setattr(worker, "open_runner", opened)
    monkeypatch.setattr(os, "sched_setaffinity", lambda thread, cores: steps.append((thread, list(cores))))
    ended = threading.Event()
    other = threading.Thread(target=ended.wait)
    other.start()
    try:
        Worker().answer({"do": "load", "path": str(export_folder(tmp_path)), "threads": 1, "cores": [0]})
    finally:
        ended.set()
        other.join()
    assert steps[0] == "opened"
    assert [threading.get_native_id(), [0]] in [list(step) for step in steps[1:]]
    assert [other.native_id, [0]] in [list(step) for step in steps[1:]]


def test_protocol(tmp_path: Path) -> None:
    folder = export_folder(tmp_path)
    loaded, timed, memory = converse(
        {"do": "load", "path": str(folder), "threads": 1},
        {"do": "time", "batch": 2, "lengths": [3, 7], "calls": 5, "seed": 0},
        {"do": "memory"},
        {"do": "quit"},
        {"do": "memory"},
    )
    assert loaded["runtime"] == "onnxruntime"
    assert loaded["vocab_size"] == VOCABULARY
    assert loaded["max_length"] == 64
    assert loaded["load_ms"] > 0
    assert len(timed["elapsed"]) == len(timed["on_core"]) == 5
    assert all(0 < core <= ms for ms, core in zip(timed["elapsed"], timed["on_core"], strict=True))
    assert loaded["first_ms"] > 0
    assert memory["peak_rss_bytes"] >= loaded["peak_rss_bytes"] > 10e6
    assert memory["run_rss_bytes"] is None or 10e6 < memory["run_rss_bytes"] <= memory["peak_rss_bytes"]


def test_prints_of_libraries_do_not_break_the_protocol(tmp_path: Path) -> None:
    program = (
        "import compressbert.measure.worker as w, os\n"
        "def peak():\n    print('hello from a library'); os.write(1, b'and from C\\n'); return 7\n"
        "w.peak_rss_bytes = peak"
    )
    assert converse({"do": "memory"}, program=program) == [{"peak_rss_bytes": 7, "run_rss_bytes": None}]


def test_reported_failures_come_back_as_answers(tmp_path: Path) -> None:
    load, early = converse(
        {"do": "load", "path": str(tmp_path / "nowhere"), "threads": 1},
        {"do": "time", "batch": 1, "lengths": [1], "calls": 1, "seed": 0},
    )
    assert load["kind"] == early["kind"] == "InputError"
    assert "nowhere" in load["error"]


def test_client_raises_what_the_worker_reports(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        WorkerProcess(tmp_path / "nowhere", threads=1)


def test_death_of_a_worker_shows_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with WorkerProcess(export_folder(tmp_path), threads=1) as worker:
        with pytest.raises(WorkError, match=r"(?s)status 1.*lengths"):
            worker._ask(do="time", batch=1, calls=3, seed=0)  # no lengths: an error that nobody foresaw
        with pytest.raises(WorkError, match="status 1"):
            worker.memory()


def test_memory_is_the_workers_own(tmp_path: Path) -> None:
    ballast = np.ones(30_000_000)  # 240 MB in this process must not show in the child
    with WorkerProcess(export_folder(tmp_path), threads=1) as worker:
        assert 20e6 < worker.memory().peak_rss_bytes < 200e6
    assert ballast[-1] == 1


def test_worker_ends_with_its_client(tmp_path: Path) -> None:
    with WorkerProcess(export_folder(tmp_path), threads=1) as worker:
        process = worker._process
        assert process.poll() is None
    assert process.poll() == 0


def test_random_inputs_are_valid_for_the_vocabulary() -> None:
    for size, low, high in ((50, 5, 50), (30_522, 5, 1000), (None, 5, 1000), (3, 2, 3)):
        limits = Limits(vocab_size=size, max_length=None, pad_id=0)
        inputs = random_inputs(
            ("input_ids", "attention_mask", "token_type_ids"), (64,) * 8, limits=limits, seed=1
        )
        assert inputs["input_ids"].min() >= low
        assert inputs["input_ids"].max() < high
        assert inputs["input_ids"].shape == (8, 64)
        assert (inputs["attention_mask"] == 1).all()
        assert (inputs["token_type_ids"] == 0).all()
        assert all(array.dtype == np.int64 for array in inputs.values())
    with pytest.raises(InputError, match="pixel_values"):
        random_inputs(("pixel_values",), (1,), limits=limits, seed=0)


def test_random_inputs_of_uneven_lengths_are_padded_on_the_right() -> None:
    limits = Limits(vocab_size=100, max_length=None, pad_id=3)
    inputs = random_inputs(("input_ids", "attention_mask"), (2, 5, 1), limits=limits, seed=0)
    assert inputs["attention_mask"].tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]]
    assert (inputs["input_ids"][inputs["attention_mask"] == 0] == 3).all()
    assert (inputs["input_ids"][inputs["attention_mask"] == 1] >= 5).all()


def test_a_padded_batch_of_the_datas_lengths_is_a_cell_of_its_own(tmp_path: Path) -> None:
    settings = BenchmarkSettings(rounds=2, cells=((1, 8),), data_batch=4, sentences=2, warmup=2)
    (timing,) = benchmark({"one": export_folder(tmp_path)}, settings, [3, 5, 7, 9, 11, 13, 15, 17])
    assert [(cell.batch, cell.length) for cell in timing.cells] == [(1, 8), (4, None), (1, None)]
    assert [cell_name(cell.batch, cell.length) for cell in timing.cells] == ["1x8", "4xdata", "data"]
    (cell,) = [cell for cell in cells_to_time(settings, [3, 5, 7, 9, 11, 13, 15, 17], 12) if cell.padded]
    assert cell.lengths == (5, 9, 12, 12)  # quantiles of what the model takes; all of them in every call
    assert cell.sample(1) == cell.lengths


def test_typical_lengths_have_the_datas_distribution() -> None:
    lengths = [3] * 50 + [10] * 30 + [60] * 20
    assert sorted(typical_lengths(lengths, 10)) == [3] * 5 + [10] * 3 + [60] * 2
    assert typical_lengths([7], 4) == (7, 7, 7, 7)


def test_same_file_twice_is_no_faster_and_more_work_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "ROUND_MS", 20.0)
    plain = export_folder(tmp_path / "plain", products=30)
    heavy = export_folder(tmp_path / "heavy", products=120)
    settings = BenchmarkSettings(rounds=12, cells=((4, 32),), sentences=8, warmup=10)
    first, again, slow = benchmark({"a": plain, "b": plain, "c": heavy}, settings, [8, 16, 32, 32])
    assert [row.name for row in (first, again, slow)] == ["a", "b", "c"]
    assert first.speedup_by_cell == {}
    assert first.speedup is None
    same = again.speedup_by_cell["4x32"]
    assert 0.8 < same.low <= 1.05
    assert 0.95 <= same.high < 1.25
    assert slow.speedup_by_cell["4x32"].high < 0.5
    assert slow.speedup == slow.speedup_by_cell["data"]
    assert slow.speedup.high < 0.8
    for row in (first, again, slow):
        fixed, data = row.cells
        assert (fixed.batch, fixed.length, data.batch, data.length) == (4, 32, 1, None)
        assert fixed.low <= fixed.p50_ms <= fixed.high <= 10 * fixed.low
        assert fixed.runs >= 12
        assert data.runs % (12 * 8) == 0
        assert row.memory.peak_rss_mb < 300
        assert row.other_cores is not None


def test_cells_longer_than_a_model_takes_are_left_out(tmp_path: Path, notes: list[str]) -> None:
    folder = export_folder(tmp_path, max_length=40)
    settings = BenchmarkSettings(rounds=2, cells=((1, 16), (1, 128)), sentences=4, warmup=2)
    (row,) = benchmark({"a": folder}, settings, [5, 500])
    assert [(cell.batch, cell.length) for cell in row.cells] == [(1, 16), (1, None)]
    assert notes == ["Not timed, since a model takes at most 40 tokens: 1x128."]


def test_nothing_to_time_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no model was given"):
        benchmark({}, BenchmarkSettings())
    with pytest.raises(ConfigError, match="No shape"):
        benchmark({"a": export_folder(tmp_path, max_length=8)}, BenchmarkSettings(cells=((1, 16),)))


def test_candidates_may_have_threads_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, bool]] = []
    started = WorkerProcess.__init__

    def noted(self: WorkerProcess, path: Path, **settings: Any) -> None:
        asked.append((settings["threads"], settings["spinning"]))
        started(self, path, **settings)

    monkeypatch.setattr(WorkerProcess, "__init__", noted)
    folder = export_folder(tmp_path)
    timings = benchmark(
        {"one": folder, "two": folder},
        BenchmarkSettings(rounds=2, cells=((1, 4),), warmup=2),
        threads={"two": Threads(2, spinning=True)},
    )
    assert sorted(asked) == [(1, False), (1, False), (2, True), (2, True)]
    assert [timing.threads for timing in timings] == [timing.cells[0].threads for timing in timings] == [1, 2]
    assert timings[0].conditions is not None
    assert timings[0].conditions.threads == 2

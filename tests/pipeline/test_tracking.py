"""Tracking: what is logged, that a finished run is never lost to it, and a real server where MLflow is installed."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from compressbert.config.schema import PipelineConfig
from compressbert.errors import InputError, WorkError
from compressbert.pipeline import tracking
from compressbert.pipeline.run import run
from compressbert.report.write import write_report
from compressbert.results.report import Report
from tests.cli.support import invoke
from tests.report.examples import against_baseline, example, row
from tests.tiny import save_tiny, toy_rows, write_rows

NEEDS_MLFLOW = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None,
    reason="MLflow is not installed: pip install 'compressbert[tracking]'",
)


def config(**changes: Any) -> PipelineConfig:
    settings = {
        "name": "tiny",
        "model": {"path": "model"},
        "data": {"train": "a.jsonl", "validation": "b.jsonl"},
        "steps": [{"quantize": {"method": {"name": "dynamic_int8"}}}],
        "tracking": "mlflow",
    }
    return PipelineConfig.model_validate(settings | changes)


def report() -> Report:
    curve = ({"step": 10, "loss": 0.7}, {"step": 20, "loss": float("nan"), "task": 0.5})
    rows = (row("finetune", training=curve), row("export", **against_baseline(8.12)))
    return example(rows=rows)


class FakeError(Exception):
    """Stands in for MlflowException."""


class Client:
    """Stands in for `MlflowClient`: remembers what it is told, or refuses."""

    def __init__(self, tracking_uri: str | None = None, *, refuse: str = "") -> None:
        self.uri, self.refuse = tracking_uri, refuse
        self.experiments: list[str] = []
        self.runs: list[tuple[str, str, dict[str, str]]] = []
        self.params: dict[str, str] = {}
        self.metrics: list[tuple[str, float, int]] = []
        self.files: list[tuple[str, str | None]] = []
        self.status: list[str] = []

    def get_experiment_by_name(self, name: str) -> Any:
        self._may("experiment")
        return SimpleNamespace(experiment_id=name) if name in self.experiments else None

    def create_experiment(self, name: str) -> str:
        self.experiments.append(name)
        return name

    def create_run(self, experiment: str, *, run_name: str, tags: dict[str, str]) -> Any:
        self.runs.append((experiment, run_name, tags))
        return SimpleNamespace(info=SimpleNamespace(run_id=f"run-{len(self.runs)}"))

    def log_batch(self, identity: str, *, params: Any = (), metrics: Any = ()) -> None:
        self._may("batch")
        assert len(params) <= 100
        assert len(metrics) <= 100
        self.params |= {param[0]: param[1] for param in params}
        self.metrics += [(metric[0], metric[1], metric[3]) for metric in metrics]

    def log_artifact(self, identity: str, file: str, place: str | None) -> None:
        self._may("artifact")
        self.files.append((Path(file).name, place))

    def set_terminated(self, identity: str, status: str) -> None:
        self.status.append(status)

    def _may(self, what: str) -> None:
        if self.refuse == what:
            raise FakeError(f"no {what}\nand a long explanation")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    """MLflow replaced by one remembering client."""
    found = Client()

    def make(tracking_uri: str | None) -> Client:
        found.uri = tracking_uri
        return found

    def values(*parts: Any) -> tuple[Any, ...]:
        return parts

    members: dict[str, dict[str, Any]] = {
        "mlflow": {"MlflowClient": make},
        "mlflow.exceptions": {"MlflowException": FakeError},
        "mlflow.entities": {"Metric": values, "Param": values},
    }
    for name, attributes in members.items():
        module = ModuleType(name)
        module.__dict__.update(attributes)
        module.__spec__ = importlib.util.spec_from_loader(name, loader=None)
        monkeypatch.setitem(sys.modules, name, module)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder as a pipeline leaves it."""
    for name in ("01-quantize", "measurements"):
        (tmp_path / "run" / name).mkdir(parents=True)
    for name in ("result.json", "README.md", "model.safetensors"):
        (tmp_path / "run" / "01-quantize" / name).write_text("{}")
    write_report(report(), tmp_path / "run")
    return tmp_path / "run"


def track(settings: PipelineConfig, folder: Path) -> bool:
    return tracking.track(settings, report(), folder, folder / "measurements")


def test_everything_is_logged_as_one_run(client: Client, folder: Path) -> None:
    settings = config(tracking={"uri": "http://server", "experiment": "sst2", "run": "monday"})
    assert track(settings, folder)
    assert client.uri == "http://server"
    assert client.experiments == ["sst2"]
    ((experiment, name, tags),) = client.runs
    assert (experiment, name) == ("sst2", "monday")
    assert tags["gate.min_speedup"] == "pass"
    assert tags["baseline"] == "finetune"
    assert client.params["data.train"] == "a.jsonl"
    assert client.params["steps.0.quantize.method.name"] == "dynamic_int8"
    assert client.params["benchmark.cells.0.1"] == "32"
    assert "gates.max_flips" not in client.params  # not set
    points = {name: value for name, value, _ in client.metrics}
    assert points["export/speedup"] == 8.12
    assert points["export/speedup_low"] == pytest.approx(8.12 * 0.97)
    assert points["export/accuracy"] == 0.89
    assert points["export/flips"] == 61
    assert points["export/p50_ms"] == 4.0
    assert "finetune/speedup" not in points
    curve = [(name, value, step) for name, value, step in client.metrics if "/train/" in name]
    assert curve == [("finetune/train/loss", 0.7, 10), ("finetune/train/task", 0.5, 20)]  # a NaN is no point
    assert client.files == [
        ("report.json", None), ("report.md", None), ("report.html", None),
        ("result.json", "01-quantize"), ("README.md", "01-quantize"),
    ]  # fmt: skip
    assert client.status == ["FINISHED"]


def test_the_pipelines_name_is_the_default(client: Client, folder: Path) -> None:
    track(config(), folder)
    assert client.uri is None
    assert client.runs[0][:2] == ("tiny", "tiny")


def test_the_same_report_is_logged_once_to_each_place(client: Client, folder: Path) -> None:
    assert track(config(), folder)
    assert not track(config(), folder)
    assert track(config(tracking={"experiment": "other"}), folder)
    write_report(example(title="another"), folder)
    assert track(config(), folder)
    assert len(client.runs) == 3
    assert client.experiments == ["tiny", "other"]


@pytest.mark.parametrize(
    ("refuse", "status"), [("experiment", []), ("batch", ["FAILED"]), ("artifact", ["FAILED"])]
)
def test_a_refusal_says_that_the_run_is_complete_and_is_tried_again(
    client: Client, folder: Path, refuse: str, status: list[str]
) -> None:
    client.refuse = refuse
    with pytest.raises(WorkError, match=f"did not take the run: no {refuse}\n") as caught:
        track(config(), folder)
    assert f"The run is complete in {folder}" in caught.value.hint
    assert client.status == status
    client.refuse = ""
    assert track(config(), folder)


def test_names_are_those_mlflow_takes() -> None:
    odd = example(rows=(row("a:b<c>"),), gates=())
    assert all(point.name.startswith("a_b_c_/") for point in tracking.metrics_of(odd))
    cut = tracking.params_of(config(name="x" * 9000))["name"]
    assert len(cut) == 6000


def pipeline(place: Path, **changes: Any) -> PipelineConfig:
    save_tiny(place / "model")
    rows = str(write_rows(place / "rows.jsonl", toy_rows(24)))
    settings: dict[str, Any] = {
        "output": str(place / "run"),
        "model": {"path": str(place / "model")},
        "data": {"validation": rows},
        "benchmark": {"rounds": 2, "cells": [[1, 8]], "sentences": 8, "warmup": 2},
    }
    return config(**settings, **changes)


def test_a_finished_run_is_not_lost_to_a_tracker_that_refuses(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESSBERT_CACHE", str(tmp_path / "cache"))
    client.refuse = "batch"
    found = run(pipeline(tmp_path))
    assert found.exit_code == 4
    assert found.untracked is not None
    assert (tmp_path / "run" / "report.json").is_file()
    failing = run(pipeline(tmp_path, gates={"max_megabytes": 1e-6}))
    assert (failing.ran, failing.exit_code) == (
        (),
        1,
    )  # a gate that failed says more than a tracker that is down
    client.refuse = ""
    again = run(pipeline(tmp_path))
    assert (again.ran, again.exit_code, again.untracked) == ((), 0, None)
    assert client.status[-1] == "FINISHED"


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is not None, reason="MLflow is installed here")
def test_without_the_extra_nothing_starts_and_the_command_to_type_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tracking: mlflow needs mlflow") as caught:
        run(pipeline(tmp_path))
    assert caught.value.hint == "pip install 'compressbert[tracking]'"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("wandb", "tracking.backend: should be 'mlflow', found 'wandb'"),
        ("{url: x}", "tracking.url: unknown key"),
    ],
)
def test_wrong_settings_are_told(tmp_path: Path, written: str, message: str) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(f"model: {{path: m}}\ndata: {{}}\nsteps: [{{export: }}]\ntracking: {written}\n")
    result = invoke("check", file)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A real MLflow server over a local store."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = tmp_path / "store"
    store.mkdir()
    words = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    places = [
        "--backend-store-uri",
        f"sqlite:///{store}/runs.db",
        "--artifacts-destination",
        str(store / "files"),
    ]
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen([*words, *places], stdout=log, stderr=log, cwd=store)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(address, process, tmp_path / "server.log")
            yield address
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 240  # on a loaded machine its first start takes minutes
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(log.read_text())


@NEEDS_MLFLOW
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_a_real_server_takes_a_run(server: str, folder: Path) -> None:
    from mlflow import MlflowClient

    settings = config(tracking={"uri": server, "experiment": "sst2"})
    assert track(settings, folder)
    assert not track(settings, folder)
    client = MlflowClient(tracking_uri=server)
    experiment = client.get_experiment_by_name("sst2")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params["steps.0.quantize.method.name"] == "dynamic_int8"
    assert found.data.metrics["export/speedup"] == 8.12
    assert found.data.tags["gate.max_megabytes"] == "fail"
    assert [
        (m.step, m.value) for m in client.get_metric_history(found.info.run_id, "finetune/train/loss")
    ] == [(10, 0.7)]
    assert {each.path for each in client.list_artifacts(found.info.run_id)} == {
        "01-quantize", "report.html", "report.json", "report.md"
    }  # fmt: skip
    logged = client.download_artifacts(found.info.run_id, "report.json", str(folder.parent))
    assert json.loads(Path(logged).read_text()) == json.loads((folder / "report.json").read_text())


@NEEDS_MLFLOW
@pytest.mark.filterwarnings("ignore")
def test_a_local_store_takes_a_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.chdir(folder.parent)  # MLflow puts the files of a local store into ./mlruns
    uri = f"sqlite:///{folder.parent}/runs.db"
    assert track(config(tracking={"uri": uri}), folder)
    experiment = MlflowClient(tracking_uri=uri).get_experiment_by_name("tiny")
    assert experiment is not None


@NEEDS_MLFLOW
@pytest.mark.filterwarnings("ignore")
def test_a_server_that_is_down_is_told_in_seconds(folder: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    started = time.monotonic()
    with pytest.raises(WorkError, match=f"MLflow at {address} did not take the run"):
        track(config(tracking={"uri": address}), folder)
    assert time.monotonic() - started < 60

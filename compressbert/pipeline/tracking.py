"""Experiment tracking: what a finished pipeline logs to MLflow, a local store or a server.

Parameters are the resolved settings, metrics the report's rows (``export/accuracy``, ``export/speedup_low``) and the
training curves by step, artefacts the report and each step's record and card. Nothing is logged while steps run: a
tracking server that is down costs no training, and the run is complete on disk before it is asked.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from compressbert.config.schema import PipelineConfig, TrackingConfig
from compressbert.errors import WorkError
from compressbert.progress import note
from compressbert.report.figures import headline_latency
from compressbert.results.hashing import CARD_NAME, RESULT_NAME, sha256_file, sha256_json
from compressbert.results.report import Report, ReportRow
from compressbert.results.store import write_json_atomic

STAMP = "tracking.json"
_FILES = ("report.json", "report.md", "report.html")
_LONGEST_PARAM = 6000  # characters; MLflow refuses longer ones
_AT_ONCE = 100  # parameters in one request
# A server that is down is told after seconds, not after MLflow's minutes; what the user set stays.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_\-. /]")


class Point(NamedTuple):
    """One value of a metric."""

    name: str
    value: float
    step: int


def track(config: PipelineConfig, report: Report, folder: Path, place: Path) -> bool:
    """Log a finished run, unless the same report was logged to the same place before.

    Args:
        config: Its settings; ``config.tracking`` must be set.
        report: As written.
        folder: The run folder.
        place: Folder for the stamp that says what was logged.

    Returns:
        Whether anything was logged.

    Raises:
        WorkError: MLflow refused, or its server did not answer. The run itself is complete.
    """
    settings = config.tracking
    if settings is None:
        return False
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    stamp = place / STAMP
    key = sha256_json([sha256_file(folder / "report.json"), settings.model_dump(mode="json")])
    if stamp.is_file() and f'"{key}"' in stamp.read_text(encoding="utf-8"):
        note("tracking: logged before")
        return False
    try:
        with _patience():
            run = log(MlflowClient(tracking_uri=settings.uri), config, settings, report, folder)
    except (MlflowException, OSError) as error:
        reason = str(error).splitlines()[0][:300]
        raise WorkError(
            f"tracking: MLflow at {settings.uri or 'its default place'} did not take the run: {reason}",
            hint=f"The run is complete in {folder}; the same command logs it once tracking works.",
        ) from error
    write_json_atomic(stamp, {"key": key, "run": run})
    note(f"tracking: logged as MLflow run {run}")
    return True


def log(client: Any, config: PipelineConfig, settings: TrackingConfig, report: Report, folder: Path) -> str:
    """Log everything through ``client``, an `MlflowClient`, as one run; returns the run's id."""
    from mlflow.entities import Metric, Param
    from mlflow.exceptions import MlflowException

    name = settings.experiment or config.name
    experiment = client.get_experiment_by_name(name)
    identity = experiment.experiment_id if experiment is not None else client.create_experiment(name)
    run: str = client.create_run(
        identity, run_name=settings.run or config.name, tags=tags_of(report)
    ).info.run_id
    try:
        params = [Param(key, value) for key, value in params_of(config).items()]
        for start in range(0, len(params), _AT_ONCE):
            client.log_batch(run, params=params[start : start + _AT_ONCE])
        now = int(time.time() * 1000)
        points = [Metric(point.name, point.value, now, point.step) for point in metrics_of(report)]
        for start in range(0, len(points), _AT_ONCE):
            client.log_batch(run, metrics=points[start : start + _AT_ONCE])
        for file, where in artefacts_of(folder):
            client.log_artifact(run, str(file), where)
    except MlflowException:
        with suppress(MlflowException):  # it is the first failure that is told
            client.set_terminated(run, "FAILED")
        raise
    client.set_terminated(run, "FINISHED")
    return run


def params_of(config: PipelineConfig) -> dict[str, str]:
    """The resolved settings as dotted names, texts cut to what MLflow takes."""
    return {
        _name(key): str(value)[:_LONGEST_PARAM] for key, value in _flat(config.model_dump(mode="json"), "")
    }


def tags_of(report: Report) -> dict[str, str]:
    """The baseline, the version, the machine, and each gate's verdict."""
    return {
        "baseline": report.baseline,
        "compressbert": report.environment.versions.get("compressbert", ""),
        "cpu": report.environment.cpu,
        **{_name(f"gate.{gate.name}"): gate.verdict for gate in report.gates},
    }


def metrics_of(report: Report) -> list[Point]:
    """Every figure of every row, and the training curves."""
    points = []
    for row in report.rows:
        figures = {key: value for key, value in _figures(row) if value is not None and math.isfinite(value)}
        points += [Point(_name(f"{row.name}/{key}"), float(value), 0) for key, value in figures.items()]
        for entry in row.training:
            step = int(entry.get("step", 0))
            points += [
                Point(_name(f"{row.name}/train/{key}"), float(value), step)
                for key, value in entry.items()
                if key != "step" and math.isfinite(value)
            ]
    return points


def artefacts_of(folder: Path) -> list[tuple[Path, str | None]]:
    """The report's files, and each step's record and card under the name of its folder. No weights."""
    found: list[tuple[Path, str | None]] = [(folder / name, None) for name in _FILES]
    for record in sorted(folder.glob(f"[0-9]*/{RESULT_NAME}")):
        found += [(record.parent / name, record.parent.name) for name in (RESULT_NAME, CARD_NAME)]
    return [(file, where) for file, where in found if file.is_file()]


def _figures(row: ReportRow) -> Iterator[tuple[str, float | None]]:
    intervals = {
        **row.quality,
        "quality_drop": row.quality_drop,
        "retained": row.retained,
        "speedup": row.speedup,
    }
    for key, found in intervals.items():
        if found is not None:
            yield from ((key, found.value), (f"{key}_low", found.low), (f"{key}_high", found.high))
    cell = headline_latency(row)
    if cell is not None:
        yield from (("p50_ms", cell.p50_ms), ("p95_ms", cell.p95_ms))
    yield "peak_rss_mb", row.memory.peak_rss_mb if row.memory is not None else None
    for key in (
        "flips",
        "mcnemar_p",
        "compression",
        "parameters",
        "bytes_on_disk",
        "macs_per_token",
        "seconds",
    ):
        yield key, getattr(row, key)


def _flat(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings and sequences by dotted name; what is empty or unset is left out."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{prefix}.{index}")
    elif value is not None:
        yield prefix, value


def _name(text: str) -> str:
    """``text`` as a name that MLflow takes."""
    return _NOT_IN_NAMES.sub("_", text)[:250]


@contextmanager
def _patience() -> Iterator[None]:
    added = {key: value for key, value in _PATIENCE.items() if key not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            os.environ.pop(key, None)

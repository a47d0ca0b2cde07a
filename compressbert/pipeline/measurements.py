"""What a pipeline measures once its steps are done: every model as ONNX against the baseline, in one interleaved run.

Models that the chain did not export itself are exported for the measurement, so that ONNX is compared with ONNX. The
exports and the timings lie in `measurements/` of the run folder and are used again while nothing they rest on changed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from compressbert.config.schema import ExportStepConfig, PipelineConfig
from compressbert.pipeline.gates import judge
from compressbert.pipeline.keys import CODE, code_sha, data_fingerprint, model_fingerprint
from compressbert.pipeline.plan import INPUT, Plan, PlannedStep
from compressbert.progress import note
from compressbert.results.environment import environment
from compressbert.results.hashing import sha256_json
from compressbert.results.measured import CandidateTimings, Comparison
from compressbert.results.record import Report, StepResult
from compressbert.results.store import RESULT_NAME, read_result, write_json_atomic

REPORT = "report.json"
PLACE = "measurements"


@dataclass(frozen=True)
class Candidate:
    """One row to measure: a step's own folder and the export that is timed."""

    name: str
    kind: str
    folder: Path
    export: Path
    step: PlannedStep | None  # None for the pipeline's input


def report_of(config: PipelineConfig, planned: Plan) -> Report:
    """Return the run's report: read back if nothing it rests on changed, else measured and written."""
    key = _key(config, planned)
    report, stamp = planned.folder / REPORT, planned.folder / PLACE / "key.json"
    if report.is_file() and stamp.is_file() and json.loads(stamp.read_text(encoding="utf-8"))["key"] == key:
        note("report: unchanged")
        return Report.model_validate_json(report.read_text(encoding="utf-8"))
    measured = _measure(config, planned)
    write_json_atomic(stamp, {"key": key})
    return measured


def _key(config: PipelineConfig, planned: Plan) -> str:
    folders = [step.folder for step in planned.steps if (step.folder / RESULT_NAME).is_file()]
    return sha256_json(
        {
            "input": model_fingerprint(config.model.path, config.model.revision),
            "models": {folder.name: model_fingerprint(str(folder)) for folder in folders},
            "settings": config.model_dump(
                mode="json", include={"benchmark", "report", "gates", "name", "seed"}
            ),
            "baseline": planned.baseline,
            "data": data_fingerprint(config.data),
            "environment": environment().model_dump(mode="json"),
            "code": code_sha(
                [*CODE["measure"], "export", "report", "pipeline/measurements.py", "pipeline/gates.py"]
            ),
        }
    )


def _measure(config: PipelineConfig, planned: Plan) -> Report:
    from compressbert.measure.latency import benchmark
    from compressbert.measure.neighbours import busy_note
    from compressbert.report.rows import RowInput, build
    from compressbert.report.write import write_report

    candidates = _exports(config, planned)
    timings = benchmark(
        {candidate.name: candidate.export for candidate in candidates},
        config.benchmark,
        _lengths(config, candidates[0]),
        seed=config.seed,
    )
    comparisons = _compare(config, planned, candidates)
    inputs = [
        RowInput(
            name=candidate.name,
            step=candidate.kind,
            method=candidate.step.method.name if candidate.step and candidate.step.method else None,
            folder=str(candidate.folder),
            result=_result(candidate),
            comparison=comparisons.get(candidate.name),
            timings=timing,
            survey=candidate.step.method.survey if candidate.step and candidate.step.method else None,
            parent=_parent(candidate, candidates),
        )
        for candidate, timing in zip(candidates, timings, strict=True)
    ]
    busy = busy_note(timings[0].other_cores or 0.0)
    report = build(
        config.report.title or config.name,
        planned.baseline,
        inputs,
        config=config.model_dump(mode="json"),
        environment=environment(),
        notes=(busy,) if busy else (),
    )
    report = report.model_copy(update={"gates": judge(config.gates, report.rows[-1])})
    write_report(report, planned.folder)
    return report


def _parent(candidate: Candidate, candidates: list[Candidate]) -> str | None:
    """Return the row whose model the candidate's step read; None for the first of a chain."""
    source = candidate.step.reads[0] if candidate.step else None
    return source if source in {other.name for other in candidates} else None


def _result(candidate: Candidate) -> StepResult:
    """Return the record of a row; the input's is the one of its export."""
    return read_result(candidate.export if candidate.step is None else candidate.folder)


def _exports(config: PipelineConfig, planned: Plan) -> list[Candidate]:
    """Return the baseline and every finished step with the export to time, writing exports that are missing."""
    from compressbert.pipeline.steps.export import export as write_export

    place = planned.folder / PLACE
    rows = [(step.name, step) for step in planned.steps if (step.folder / RESULT_NAME).is_file()]
    first: list[tuple[str, PlannedStep | None]] = [(INPUT, None)] if planned.baseline == INPUT else []
    ordered = [*first, *sorted(rows, key=lambda row: row[0] != planned.baseline)]
    candidates = []
    for name, step in ordered:
        folder = step.folder if step else Path(config.model.path)
        export = folder if step and step.kind == "export" else place / name
        if export != folder:
            source = (
                config.model
                if step is None
                else config.model.model_copy(update={"path": str(folder), "revision": None})
            )
            settings = ExportStepConfig(model=source, output=str(export))
            if not _is_export_of(export, model_fingerprint(source.path, source.revision)):
                write_export(settings, overwrite=True, data=config.data if step is None else None)
        candidates.append(Candidate(name, step.kind if step else INPUT, folder, export, step))
    return candidates


def _is_export_of(folder: Path, fingerprint: str) -> bool:
    if not (folder / RESULT_NAME).is_file():
        return False
    parent = read_result(folder).parent
    return parent is not None and parent.sha256 == fingerprint


def _lengths(config: PipelineConfig, candidate: Candidate) -> list[int] | None:
    """Return the token counts of the validation rows, as the baseline's tokenizer cuts them."""
    from compressbert.pipeline.steps.inputs import validation_lengths

    return validation_lengths(config.data, candidate.export)


def _compare(config: PipelineConfig, planned: Plan, candidates: list[Candidate]) -> dict[str, Comparison]:
    """Return each candidate against the baseline, and write the rows whose prediction changed."""
    from compressbert.pipeline.steps.compare import compare_folders

    scored = {c.name: c.export if c.step is None else c.folder for c in candidates}
    return compare_folders(scored, planned.baseline, config.data, place=planned.folder / PLACE)


__all__ = ["CandidateTimings", "report_of"]

"""What a pipeline measures once its steps are done: every model as ONNX against the baseline, in one interleaved run.

Models that the chain did not export itself are exported for the measurement, so that ONNX is compared with ONNX. The
exports and the timings lie in `measurements/` of the run folder and are used again while nothing they rest on changed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from compressbert.config.schema import ExportStepConfig, PipelineConfig
from compressbert.pipeline.keys import CODE, code_sha, data_fingerprint, model_fingerprint
from compressbert.pipeline.plan import INPUT, Plan, PlannedStep
from compressbert.pipeline.verdicts import Second, judged
from compressbert.progress import note
from compressbert.results.environment import environment
from compressbert.results.hashing import sha256_json
from compressbert.results.measured import CandidateTimings, Comparison
from compressbert.results.record import StepResult
from compressbert.results.report import Report
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
    """Return the run's report: read back if nothing it rests on changed, else measured, judged and written.

    Limits are no part of what is measured: other gates are judged on the same figures.
    """
    from compressbert.report.write import write_report

    stamp = planned.folder / PLACE / "key.json"
    measured, verdicts = _key(config, planned), _gates_key(config)
    before = json.loads(stamp.read_text(encoding="utf-8")) if stamp.is_file() else {}
    report = _read_back(planned.folder / REPORT) if before.get("key") == measured else None
    if report is not None and before.get("gates") == verdicts:
        note("report: unchanged")
        return report
    if report is None:
        report = _measure(config, planned)
        write_report(report, planned.folder)
        write_json_atomic(
            stamp, {"key": measured}
        )  # a kill while the gates buy more rounds loses none of these
    report = judged(config.gates, report, partial(_again, config, planned, report))
    report = report.model_copy(update={"config": config.model_dump(mode="json")})
    write_report(report, planned.folder)
    _add_to_cards(report, planned)
    write_json_atomic(stamp, {"key": measured, "gates": verdicts})
    return report


def _add_to_cards(report: Report, planned: Plan) -> None:
    """Add to the cards of the steps what was measured against the baseline."""
    from compressbert.report.card import Card, Measured, write_card

    steps = {step.name: step for step in planned.steps}
    for row in report.rows:
        if row.name in steps:
            step = steps[row.name]
            measured = Measured(
                row,
                report.baseline,
                report.environment,
                report.conditions,
                timed_as_export=step.kind != "export",
            )
            write_card(Card(read_result(step.folder), measured), step.folder)


def _read_back(file: Path) -> Report | None:
    return Report.model_validate_json(file.read_text(encoding="utf-8")) if file.is_file() else None


def _gates_key(config: PipelineConfig) -> str:
    code = code_sha(["pipeline/gates.py", "pipeline/enough.py", "pipeline/verdicts.py"])
    return sha256_json({"gates": config.gates.model_dump(mode="json"), "code": code})


def _key(config: PipelineConfig, planned: Plan) -> str:
    folders = [step.folder for step in planned.steps if (step.folder / RESULT_NAME).is_file()]
    return sha256_json(
        {
            "input": model_fingerprint(config.model.path, config.model.revision),
            "models": {folder.name: model_fingerprint(str(folder)) for folder in folders},
            "settings": config.model_dump(mode="json", include={"benchmark", "report", "name", "seed"}),
            "baseline": planned.baseline,
            "data": data_fingerprint(config.data),
            "environment": environment().model_dump(mode="json"),
            "code": code_sha([*CODE["measure"], "export", "report", "pipeline/measurements.py"]),
        }
    )


def _measure(config: PipelineConfig, planned: Plan) -> Report:
    from compressbert.measure.latency import benchmark
    from compressbert.measure.neighbours import busy_note
    from compressbert.pipeline.steps.inputs import own_lengths, validation_texts
    from compressbert.report.rows import RowInput, build

    candidates = _exports(config, planned)
    timings = benchmark(
        {candidate.name: candidate.export for candidate in candidates},
        config.benchmark,
        _lengths(config, candidates[0]),
        own_lengths=own_lengths(config.data, {c.name: c.export for c in candidates}),
        texts=validation_texts(config.data),
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
    return build(
        config.report.title or config.name,
        planned.baseline,
        inputs,
        config=config.model_dump(mode="json"),
        environment=environment(),
        notes=(busy,) if busy else (),
    )


def _again(config: PipelineConfig, planned: Plan, report: Report, rounds: int, seconds: float) -> Second:
    """Time the baseline and the last row once more, alone."""
    from compressbert.measure.latency import benchmark
    from compressbert.pipeline.steps.inputs import own_lengths

    candidates = _exports(config, planned)
    pair = (candidates[0], candidates[-1])
    settings = config.benchmark.model_copy(update={"budget_seconds": seconds, "precision": None})
    note(f"gates: cannot tell; measuring {pair[0].name} and {pair[1].name} again, at most {rounds} rounds")
    timings = benchmark(
        {candidate.name: candidate.export for candidate in pair},
        settings,
        _lengths(config, candidates[0]),
        own_lengths=own_lengths(config.data, {c.name: c.export for c in pair}),
        seed=config.seed + 1,
        most_rounds=rounds,
    )[-1]
    row = report.rows[-1].model_copy(
        update={"speedup": timings.speedup, "latency": timings.cells, "memory": timings.memory}
    )
    return Second(row, timings.conditions)


def _parent(candidate: Candidate, candidates: list[Candidate]) -> str | None:
    """Return the row whose model the candidate's step read; None for the first of a chain."""
    source = candidate.step.source if candidate.step else None
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
    return compare_folders(
        scored, planned.baseline, config.data, place=planned.folder / PLACE, settings=config.report
    )


__all__ = ["CandidateTimings", "report_of"]

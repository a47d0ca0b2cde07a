"""`run`: a pipeline from its plan to its report and gates."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from compressbert.config.extras import require_tracking
from compressbert.config.schema import CompressConfig, FinetuneConfig, PipelineConfig
from compressbert.errors import ConfigError, WorkError
from compressbert.pipeline.gates import exit_code
from compressbert.pipeline.keys import model_fingerprint
from compressbert.pipeline.measurements import PLACE, report_of
from compressbert.pipeline.plan import (
    INPUT,
    LOCK,
    Plan,
    PlannedStep,
    check_running,
    damaged_file,
    plan,
    read_lock,
)
from compressbert.pipeline.tracking import track
from compressbert.progress import note
from compressbert.results.report import Report
from compressbert.results.store import RESULT_NAME, folder_lock, write_json_atomic


@dataclass(frozen=True)
class RunResult:
    """What a pipeline left."""

    report: Report
    folder: Path
    ran: tuple[str, ...]
    skipped: tuple[str, ...]
    exit_code: int
    untracked: WorkError | None = None  # why the finished run could not be logged


def run(
    config: PipelineConfig,
    *,
    force: Sequence[str] = (),
    from_step: str | None = None,
    only: str | None = None,
) -> RunResult:
    """Run the steps whose result is not there yet, measure all of them against the baseline, and judge the gates.

    A killed run goes on where it was when it is called again.

    Args:
        config: The pipeline.
        force: Steps to run even if nothing changed.
        from_step: Run this step and all after it.
        only: Run this step alone; what it reads must be there.

    Returns:
        The report and the exit code: 1 if a gate failed, 4 if the finished run could not be logged, else 0.

    Raises:
        ConfigError: A setting is wrong, or another run works in the same folder.
        InputError: A model or data is missing or unusable.
        WorkError: A step failed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "a pipeline runs in one process: what it measures would be disturbed by the others",
            hint="Launch the steps that train one by one: torchrun … -m compressbert distill CONFIG.yaml.",
        )
    require_tracking(config.tracking)
    planned = plan(config, force=force, from_step=from_step, only=only)
    check_running(planned)
    with folder_lock(planned.folder):
        steps = _run_steps(config, planned)
        planned = replace(planned, steps=steps)
        report = report_of(config, planned)
        untracked = _tracked(config, report, planned.folder)
    ran = tuple(step.name for step in planned.steps if step.action == "run")
    skipped = tuple(step.name for step in planned.steps if step.action == "skip")
    code = exit_code(report.gates, config.gates.on_uncertain)
    if code == 0 and untracked is not None:
        code = untracked.exit_code
    return RunResult(report, planned.folder, ran, skipped, code, untracked)


def _tracked(config: PipelineConfig, report: Report, folder: Path) -> WorkError | None:
    """Log the finished run where that is asked for; a failure to do so takes nothing away from it."""
    if config.tracking is None:
        return None
    try:
        track(config, report, folder, folder / PLACE)
    except WorkError as error:
        return error
    return None


def _run_steps(config: PipelineConfig, planned: Plan) -> tuple[PlannedStep, ...]:
    """Run what has to run, in order, and return the steps as they went."""
    fingerprints: dict[str, str | None] = {INPUT: model_fingerprint(config.model.path, config.model.revision)}
    done = []
    for index, step in enumerate(planned.steps, start=1):
        went = _came_out_the_same(step, fingerprints, planned.folder)
        label = f"[{index}/{len(planned.steps)}] {step.name}"
        if went.action == "run":
            note(f"{label}: {went.reason}")
            _execute(went)
            key = went.key_for(fingerprints)
            write_json_atomic(
                planned.folder / LOCK,
                {"schema_version": 1, "steps": {**read_lock(planned.folder), step.name: key}},
            )
        else:
            note(f"{label}: skipped, {went.reason}")
        fingerprints[step.name] = model_fingerprint(str(step.folder)) if step.folder.is_dir() else None
        done.append(went)
    return tuple(done)


def _came_out_the_same(step: PlannedStep, fingerprints: dict[str, str | None], folder: Path) -> PlannedStep:
    """Return ``step`` as a skip if it only had to wait for an input that did not change after all."""
    if step.action == "skip" or step.key is not None or not (step.folder / RESULT_NAME).is_file():
        return step
    if read_lock(folder).get(step.name) != step.key_for(fingerprints) or damaged_file(step.folder):
        return step
    return replace(step, action="skip", reason="its input came out the same")


def _execute(step: PlannedStep) -> None:
    """Call the step's plain function. Torch is imported here, when there is something to do."""
    config = step.config
    if isinstance(config, FinetuneConfig):
        from compressbert.pipeline.steps.finetune import finetune

        finetune(config, overwrite=True)
    elif isinstance(config, CompressConfig):
        from compressbert.pipeline.steps.compress import compress

        compress(step.kind, config, overwrite=True)
    else:
        from compressbert.pipeline.steps.export import export

        export(config, overwrite=True, data=step.data)

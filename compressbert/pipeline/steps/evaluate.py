"""`evaluate`: metrics with intervals for a model folder, an export folder or an .onnx file, and what it lost."""

from __future__ import annotations

import time
from pathlib import Path

from compressbert.config.schema import EvaluateConfig, ModelSource
from compressbert.errors import InputError
from compressbert.pipeline.keys import model_fingerprint
from compressbert.pipeline.steps.compare import Baseline, same_questions
from compressbert.pipeline.steps.inputs import Inputs, read_inputs, stored_label_names
from compressbert.pipeline.steps.outcome import PREDICTIONS, scored
from compressbert.results.environment import environment
from compressbert.results.record import Parent, StepResult
from compressbert.results.store import step_folder


def evaluate(config: EvaluateConfig, *, overwrite: bool = False) -> StepResult:
    """Evaluate ``config.model`` on the validation split and return the record; with ``output`` it is also written.

    With ``config.baseline`` the record holds what was lost against it, and ``output`` the rows that flipped.

    Raises:
        ConfigError: No validation data is configured.
        InputError: The model or the data is unusable, or their label names disagree.
    """
    if config.output is None:
        return _evaluate(config, None)
    with step_folder(Path(config.output), overwrite=overwrite, key="evaluate") as step:
        return step.commit(_evaluate(config, step.folder))


def _evaluate(config: EvaluateConfig, folder: Path | None) -> StepResult:
    started = time.monotonic()
    path = _artefact(config.model)
    against = _artefact(config.baseline) if config.baseline is not None else None
    inputs = read_inputs(config.data, config.model, needs=("validation",))
    quality = scored(path, inputs, predictions=folder / PREDICTIONS if folder else None)
    comparison = None
    if config.baseline is not None and against is not None:
        _same_labels(config.baseline, inputs, config)
        if not same_questions(inputs, against, path):
            raise InputError(
                f"{against} and {path} cut texts into other pieces, so other words are masked in each",
                hint="Compare them on a task, or evaluate each by itself.",
            )
        flips_file = folder / "flips.jsonl" if folder else None
        baseline = Baseline.of(scored(against, inputs), inputs, against, config)
        comparison = baseline.compare(quality, flips_file=flips_file)
    return StepResult(
        step=path.name,
        command="evaluate",
        config=config.model_dump(mode="json"),
        seed=config.seed,
        parent=Parent(folder=str(path), sha256=model_fingerprint(config.model.path)),
        quality=quality.results,
        primary_metric=inputs.task.primary_metric,
        comparison=comparison,
        environment=environment(),
        seconds=time.monotonic() - started,
        files={},
    )


def _artefact(source: ModelSource) -> Path:
    path = Path(source.path)
    if not path.exists():
        raise InputError(
            f"no model at {path}", hint="Give a model folder, an export folder or an .onnx file."
        )
    return path


def _same_labels(baseline: ModelSource, inputs: Inputs, config: EvaluateConfig) -> None:
    """Outputs are compared by position, so both must have the same labels in the same order."""
    names = stored_label_names(baseline)
    if names is not None and inputs.task.label_names and names != inputs.task.label_names:
        raise InputError(
            f"label names differ: {baseline.path} has {list(names)}, "
            f"{config.model.path} has {list(inputs.task.label_names)}",
            hint="Compare models of the same task.",
        )

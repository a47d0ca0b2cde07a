"""`evaluate`: metrics with intervals for a model folder, an export folder or an .onnx file."""

from __future__ import annotations

import time
from pathlib import Path

from compressbert.config.schema import EvaluateConfig
from compressbert.errors import InputError
from compressbert.pipeline.keys import model_fingerprint
from compressbert.pipeline.steps.inputs import read_inputs
from compressbert.pipeline.steps.outcome import PREDICTIONS, score
from compressbert.results.environment import environment
from compressbert.results.record import Parent, StepResult
from compressbert.results.store import step_folder


def evaluate(config: EvaluateConfig, *, overwrite: bool = False) -> StepResult:
    """Evaluate ``config.model`` on the validation split and return the record; with ``output`` it is also written.

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
    path = Path(config.model.path)
    if not path.exists():
        raise InputError(
            f"no model at {path}", hint="Give a model folder, an export folder or an .onnx file."
        )
    inputs = read_inputs(config.data, config.model, needs=("validation",))
    quality = score(path, inputs, predictions=folder / PREDICTIONS if folder else None)
    return StepResult(
        step=path.name,
        command="evaluate",
        config=config.model_dump(mode="json"),
        seed=config.seed,
        parent=Parent(folder=str(path), sha256=model_fingerprint(config.model.path)),
        quality=quality.results if quality is not None else {},
        primary_metric=inputs.task.primary_metric,
        environment=environment(),
        seconds=time.monotonic() - started,
        files={},
    )

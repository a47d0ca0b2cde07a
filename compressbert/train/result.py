"""What a stage of training did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class FitResult:
    """What a stage of training did, however often it was interrupted.

    Attributes:
        steps: Optimizer steps.
        seconds: Wall time, validation and checkpoints included.
        examples_per_second: Training examples per second of that time, all processes together.
        log: About 50 points a run, each the mean since the one before: step, loss, its parts, learning_rate.
        epochs: Validation results: epoch, step, and the task's primary metric under its name.
        kept_step: The step whose weights the model has now; of a mean of runs, the last run's.
        resumed_from: The step at which this call found the stage; None if it began it.
    """

    steps: int
    seconds: float
    examples_per_second: float
    log: tuple[dict[str, float], ...]
    epochs: tuple[dict[str, float], ...]
    kept_step: int
    resumed_from: int | None


def joined(results: Sequence[FitResult]) -> FitResult:
    """The results of trainings that followed one another, as one; steps go on counting."""
    steps, kept, examples = 0, 0, 0.0
    log: list[dict[str, float]] = []
    epochs: list[dict[str, float]] = []
    for result in results:
        log += _counted_on(result.log, steps)
        epochs += _counted_on(result.epochs, steps)
        kept = steps + result.kept_step
        steps += result.steps
        examples += result.examples_per_second * result.seconds
    seconds = sum(result.seconds for result in results)
    found = [result.resumed_from for result in results if result.resumed_from is not None]
    return FitResult(
        steps=steps,
        seconds=seconds,
        examples_per_second=examples / seconds,
        log=tuple(log),
        epochs=tuple(epochs),
        kept_step=kept,
        resumed_from=sum(found) if found else None,
    )


def _counted_on(points: Sequence[dict[str, float]], steps: int) -> list[dict[str, float]]:
    return [{**point, "step": point["step"] + steps} for point in points]

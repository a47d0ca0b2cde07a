"""The one training loop: `finetune` and every method train through `fit`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from torch import nn

from compressbert import progress
from compressbert.config.schema import TrainConfig
from compressbert.data.encode import Encoded
from compressbert.errors import ConfigError
from compressbert.model.handle import Model
from compressbert.tasks.base import Task
from compressbert.train.average import average_runs
from compressbert.train.memory import keep_freed_memory
from compressbert.train.predict import score
from compressbert.train.processes import by_the_first
from compressbert.train.result import FitResult
from compressbert.train.stage import Loss, Stage
from compressbert.train.while_training import dropout_of, frozen_words

StepHook = Callable[[int, int], None]

__all__ = ["FitResult", "Loss", "StepHook", "fit"]


def fit(
    model: Model, encoded: Encoded, loss: Loss, settings: TrainConfig, *, task: Task, seed: int, work: Path,
    stage: str, validation: Encoded | None = None, before_step: StepHook | None = None,
    after_step: StepHook | None = None, extra_modules: Mapping[str, nn.Module] | None = None,
    rate_of: Callable[[str], float] | None = None,
) -> FitResult:  # fmt: skip
    """Train ``model`` in place and leave it in evaluation mode.

    ``loss(model, batch)`` returns named parts, already weighted; their sum is minimised. It runs under
    autocast, but logits leave the network in float32. ``before_step`` and ``after_step`` are called with
    (step from 0, total steps) around each optimizer step. Parameters that take no gradient stay as they are.

    The outcome is a function of the arguments alone: torch's global generator is seeded anew for each step
    and put back at the end. So randomness inside ``loss`` and the hooks must come from that generator, and
    whatever they remember must follow from the step number. Then a stage found finished in ``work/stage`` is
    read back instead of trained, and an unfinished one goes on exactly from its last checkpoint.

    ``average_runs`` trains again from the same start, with seeds that follow from ``seed``, in ``work/stage-2``
    and so on, and takes the mean of the weights. The first run is the one that would be trained alone.

    Args:
        extra_modules: Modules trained along with the network (projections, gates); checkpoints hold them too.
        rate_of: Factor of the learning rate of a parameter, by its name in the network; default: 1 for all.

    Raises:
        ConfigError: ``keep: best`` or ``early_stop`` without validation rows, ``freeze_words`` without word embeddings.
        WorkError: The training diverged, the disk is full, or a checkpoint is damaged.
    """
    if validation is None and (settings.keep == "best" or settings.early_stop is not None):
        raise ConfigError(
            "train.keep: best and train.early_stop need validation rows, but there are none",
            hint="Give data.validation, or drop the setting.",
        )
    keep_freed_memory()
    extra = dict(extra_modules or {})
    alone = settings.model_copy(update={"average_runs": 1})
    once = partial(
        _train_once, model, encoded, loss, alone, task=task, work=work, validation=validation, before_step=before_step,
        after_step=after_step, extra_modules=extra, rate_of=rate_of,
    )  # fmt: skip
    if settings.average_runs == 1:
        return once(seed=seed, stage=stage)
    modules = [model.network, *extra.values()]
    result = average_runs(once, settings.average_runs, modules, seed=seed, stage=stage)
    if validation is not None:
        value = by_the_first(partial(score, model, validation, task))
        progress.note(f"{stage}: the mean has {task.primary_metric} {value:.4f}")
    return result


def _train_once(
    model: Model, encoded: Encoded, loss: Loss, settings: TrainConfig, *, task: Task, seed: int, work: Path,
    stage: str, validation: Encoded | None, before_step: StepHook | None, after_step: StepHook | None,
    extra_modules: Mapping[str, nn.Module], rate_of: Callable[[str], float] | None,
) -> FitResult:  # fmt: skip
    with frozen_words(model, enabled=settings.freeze_words), dropout_of(model, settings.dropout):
        run = Stage(
            model, encoded, loss, settings, task=task, seed=seed, folder=work / stage, validation=validation,
            extra_modules=extra_modules, rate_of=rate_of,
        )  # fmt: skip
        with run.training():
            resumed_from = run.restore()
            with progress.track(stage, run.examples_in_all, "examples") as shown:
                shown.advance(run.state.examples)
                while not run.finished:
                    step = run.state.step
                    run.seed_step()
                    if before_step:
                        before_step(step, run.plan.total)
                    examples = run.step()
                    if after_step:
                        after_step(step, run.plan.total)
                    run.validate_and_save()
                    shown.advance(examples, loss=run.losses.latest, **run.last_metric)
            run.close()
    return FitResult(
        steps=run.state.step,
        seconds=run.state.seconds,
        examples_per_second=run.state.examples / run.state.seconds,
        log=tuple(run.state.log),
        epochs=tuple(run.state.epochs),
        kept_step=run.kept_step,
        resumed_from=resumed_from,
    )

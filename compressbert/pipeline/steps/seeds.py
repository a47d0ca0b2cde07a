"""The same work with several seeds: the first one's model is kept, the others leave what they predicted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from compressbert.config.schema import CompressConfig, FinetuneConfig
from compressbert.errors import ConfigError
from compressbert.model.checkpoint import save
from compressbert.model.handle import Model
from compressbert.pipeline.steps.inputs import Inputs
from compressbert.pipeline.steps.outcome import score
from compressbert.progress import note
from compressbert.train.processes import by_the_first


def need_validation(config: FinetuneConfig | CompressConfig, inputs: Inputs | None) -> None:
    """Raises ConfigError if several seeds were asked for and there are no rows to tell them apart."""
    if config.seeds > 1 and (inputs is None or "validation" not in inputs.splits):
        raise ConfigError(
            f"seeds: {config.seeds} needs validation data to tell how far the seeds differ, and there is none",
            hint="Add --validation FILE, or `validation: FILE` to the data section.",
        )


def other_seeds(
    config: FinetuneConfig | CompressConfig,
    inputs: Inputs | None,
    work: Path,
    make: Callable[[int, Path], Model],
) -> dict[int, Path]:
    """Do the work again with every seed but the first, and return what each predicted on the validation split.

    A seed that is finished stays so when the step is killed and called again.

    Args:
        config: The step's settings.
        inputs: Its task and data.
        work: The step's scratch folder.
        make: Does the work with a seed, in a scratch folder of its own.
    """
    found = {}
    for seed in range(config.seed + 1, config.seed + config.seeds):
        predictions = work / f"predictions-seed-{seed}.safetensors"
        if not predictions.is_file():
            note(f"seed {seed}")
            place = work / f"seed-{seed}"
            by_the_first(partial(_predict, make(seed, place), inputs, place, predictions))
        found[seed] = predictions
    return found


def _predict(model: Model, inputs: Inputs | None, place: Path, predictions: Path) -> None:
    model.network.cpu()
    save(model, place / "model")
    score(place / "model", inputs, predictions=predictions)
    shutil.rmtree(place)

"""Comparing what several folders predicted on the same rows, and the rows whose prediction changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from compressbert.config.schema import DataConfig, ModelSource
from compressbert.measure.quality import Quality, compare, load_predictions, quality_of, write_flips
from compressbert.pipeline.steps.inputs import read_inputs
from compressbert.pipeline.steps.outcome import PREDICTIONS
from compressbert.results.measured import Comparison
from compressbert.tasks.base import Task


def compare_folders(
    folders: Mapping[str, Path], baseline: str, data: DataConfig, *, place: Path
) -> dict[str, Comparison]:
    """Compare every folder's saved predictions with the baseline's.

    Args:
        folders: Name to the folder that holds `predictions.safetensors`; folders without one are left out.
        baseline: Name of the folder that the others are compared with.
        data: The data section; its validation rows are the texts of the flips.
        place: Folder for ``flips-NAME.jsonl``.

    Returns:
        Name to comparison, without the baseline; empty if the baseline has no predictions.
    """
    files = {
        name: folder / PREDICTIONS for name, folder in folders.items() if (folder / PREDICTIONS).is_file()
    }
    if baseline not in files or len(files) < 2:
        return {}
    inputs = read_inputs(data, ModelSource(path=str(folders[baseline])), needs=("validation",))
    before, labels = _quality(files[baseline], inputs.task)
    found = {}
    for name, file in files.items():
        if name == baseline:
            continue
        after, _ = _quality(file, inputs.task)
        found[name] = compare(before, after, labels, inputs.task)
        if found[name].flips is not None:
            write_flips(
                place / f"flips-{name}.jsonl",
                found[name],
                baseline=before,
                candidate=after,
                split=inputs.splits["validation"],
                task=inputs.task,
            )
    return found


def _quality(file: Path, task: Task) -> tuple[Quality, NDArray[Any]]:
    logits, labels = load_predictions(file)
    return quality_of(logits, labels, task), labels

"""Comparing what several folders predicted on the same rows: losses, slices, and the rows that flipped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressbert.config.schema import ComparisonSettings, DataConfig, ModelSource
from compressbert.data.own_vocabulary import same_pieces
from compressbert.data.read import column_values
from compressbert.measure.comparison import compare
from compressbert.measure.flips import WORST, flips, write_flips
from compressbert.measure.quality import Quality, load_predictions
from compressbert.measure.slices import Group, column_groups, judge_slices, label_groups, length_groups
from compressbert.model.checkpoint import load_tokenizer
from compressbert.pipeline.steps.inputs import Inputs, artefact_folder, read_inputs
from compressbert.pipeline.steps.outcome import PREDICTIONS
from compressbert.progress import note
from compressbert.results.record import Comparison


def compare_folders(
    folders: Mapping[str, Path],
    baseline: str,
    data: DataConfig,
    *,
    place: Path,
    settings: ComparisonSettings | None = None,
) -> dict[str, Comparison]:
    """Compare every folder's saved predictions with the baseline's.

    Args:
        folders: Name to the folder that holds `predictions.safetensors`; folders without one are left out.
        baseline: Name of the folder that the others are compared with.
        data: The data section; its validation rows are the texts of the flips.
        place: Folder for ``flips-NAME.jsonl``.
        settings: Slices and margin of the report.

    Returns:
        Name to comparison, without the baseline; empty if the baseline has no predictions.
    """
    files = {
        name: folder / PREDICTIONS for name, folder in folders.items() if (folder / PREDICTIONS).is_file()
    }
    if baseline not in files or len(files) < 2:
        return {}
    inputs = read_inputs(data, ModelSource(path=str(folders[baseline])), needs=("validation",))
    before = load_predictions(files[baseline], inputs.task)
    against = Baseline.of(before, inputs, folders[baseline], settings or ComparisonSettings())
    found = {}
    for name, file in files.items():
        if name != baseline:
            if not same_questions(inputs, folders[baseline], folders[name]):
                note(f"{name} cuts texts into other pieces, so other words are masked: not compared.")
                continue
            candidate = load_predictions(file, inputs.task)
            found[name] = against.compare(candidate, flips_file=place / f"flips-{name}.jsonl")
    return found


def same_questions(inputs: Inputs, one: Path, other: Path) -> bool:
    """Whether two artefacts are asked the same: masked words differ where tokenizers do."""
    if inputs.task.kind != "masked-lm":
        return True
    first, second = (load_tokenizer(artefact_folder(path)) for path in (one, other))
    return same_pieces(first, second)


@dataclass(frozen=True)
class Baseline:
    """What candidates are compared with: its quality, the rows, and the parts the rows are looked at in."""

    quality: Quality
    inputs: Inputs
    groups: tuple[Group, ...]
    margin: float

    @staticmethod
    def of(quality: Quality, inputs: Inputs, path: Path, settings: ComparisonSettings) -> Baseline:
        """Args: the baseline's quality, the data, its artefact (whose tokenizer tells lengths), settings.

        Raises:
            ConfigError: The data have no column that was asked for as slices.
            InputError: No value of such a column has enough rows.
        """
        groups: list[Group] = []
        for by in dict.fromkeys(settings.slices):
            if by == "label":
                groups += label_groups(quality.labels, inputs.task)
            elif by == "length":
                encoded = inputs.required("validation", load_tokenizer(artefact_folder(path)))
                groups += length_groups(encoded.row_lengths)
            else:
                groups += column_groups(by, column_values(inputs.config, "validation", by))
        return Baseline(quality, inputs, tuple(groups), settings.margin)

    def compare(self, candidate: Quality, *, flips_file: Path | None = None) -> Comparison:
        """Compare ``candidate`` in every way, and list the flipped rows in ``flips_file``."""
        task = self.inputs.task
        found = compare(self.quality, candidate, self.quality.labels, task, margin=self.margin)
        both: dict[str, Any] = {
            "baseline": self.quality,
            "candidate": candidate,
            "labels": self.quality.labels,
            "task": task,
        }
        changes: dict[str, Any] = {"slices": judge_slices(self.groups, **both)}
        if found.flips is not None:
            listed = list(flips(found, split=self.inputs.splits["validation"], **both))
            changes["worst_flips"] = tuple(listed[:WORST])
            if flips_file is not None:
                write_flips(flips_file, listed)
        return found.model_copy(update=changes)

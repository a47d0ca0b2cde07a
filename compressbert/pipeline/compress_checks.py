"""What a compress step can be refused for before any work: settings that do not go with the method or the data."""

from __future__ import annotations

from compressbert.config.schema import CompressConfig, TaskKind
from compressbert.errors import ConfigError
from compressbert.methods.base import MethodConfig

AUGMENTED_KINDS: tuple[TaskKind, ...] = (
    "sequence-classification",
    "regression",
    "multi-label",
    "sentence-embedding",
)


def check_compress(config: CompressConfig, settings: MethodConfig) -> None:
    """Check that a step's sections go together and with its method.

    Raises:
        ConfigError: New texts cannot be had or have no labels that the method needs; a student would not be read.
    """
    _check_augment(config, settings)
    _check_student(config, settings)


def _check_augment(config: CompressConfig, settings: MethodConfig) -> None:
    """ConfigError where new texts cannot be had, or the method wants their labels, which nobody knows."""
    if config.augment is None:
        return
    if config.data is None:
        raise ConfigError(
            "augment makes texts from training data, and there is no data section",
            hint="Add `data: {train: FILE}`.",
        )
    if config.data.task not in AUGMENTED_KINDS:
        raise ConfigError(
            f"augment changes words of a text, and {config.data.task} has a target for its words",
            hint=f"Leave augment out; it works for {', '.join(AUGMENTED_KINDS)}.",
        )
    if settings.reads_labels():
        raise ConfigError(
            f"{config.method.name}, as it is set, learns from labels, and the texts that augment makes have none",
            hint=f"Give the labels no weight (`compressbert methods {config.method.name}` lists the settings), "
            "or leave augment out.",
        )


def _check_student(config: CompressConfig, settings: MethodConfig) -> None:
    """ConfigError where a student is given that the method would not read."""
    if config.student is None or settings.takes_student:
        return
    raise ConfigError(
        f"{config.method.name} starts from `model` and would not read `student: {config.student.path}`",
        hint="To go on from that folder, give it as `model`, and what it learns from as `teacher`.",
    )

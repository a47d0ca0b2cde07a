"""Fitting a stored model to a task: whether its head stays, and which label names its config carries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedConfig, PreTrainedModel

from compressbert.config.schema import PoolingMode, TaskKind
from compressbert.errors import InputError
from compressbert.model.pooling import Pooling

_GENERIC = re.compile(r"LABEL_\d+|\d+")
_PROBLEM: dict[TaskKind, str] = {
    "sequence-classification": "single_label_classification",
    "regression": "regression",
    "multi-label": "multi_label_classification",
}
_WITHOUT_LABELS: tuple[TaskKind, ...] = ("masked-lm", "sentence-embedding")


@dataclass(frozen=True)
class TaskSpec:
    """What a model's head must be.

    Attributes:
        kind: What the model learns to do.
        label_names: Names in the order of their ids; empty where outputs have no names.
        num_outputs: Width of the logits; 0 where it is the model's own.
        pooling: Of a sentence encoder: what the settings say, each None for what the model's folder says.
    """

    kind: TaskKind
    label_names: tuple[str, ...]
    num_outputs: int
    pooling: tuple[PoolingMode | None, bool | None] = (None, None)


def settle(
    config: PreTrainedConfig, stored: str | None, target: type[PreTrainedModel], task: TaskSpec
) -> bool:
    """Write the task's labels into ``config`` and tell whether the stored head can stay.

    It stays when class, number of outputs and kind of problem agree. Names that say nothing (LABEL_0, 0)
    agree with any; the names of a head that stays are kept as stored.

    Args:
        config: Of the stored model; changed in place.
        stored: Class that was stored, as named in config.json.
        target: Class with the task's head.
        task: The task.

    Raises:
        InputError: The stored names and the task's contradict each other; ids would silently change their
            meaning.
    """
    if task.kind in _WITHOUT_LABELS:
        return True  # the head that predicts words has the same names in every class that holds one
    problem = _PROBLEM.get(task.kind)
    same_size = stored == target.__name__ and config.num_labels == task.num_outputs
    fits = same_size and config.problem_type in (None, problem)
    names = [config.id2label[index] for index in range(config.num_labels)]
    if not fits:
        names = list(task.label_names) or [f"LABEL_{index}" for index in range(task.num_outputs)]
    elif is_generic(names) and task.label_names:
        names = list(task.label_names)
    elif not is_generic(task.label_names):
        _compare(names, task.label_names)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
    config.problem_type = problem
    return fits


def pooling_for(stored: Pooling | None, task: TaskSpec, folder: Path) -> Pooling:
    """How a sentence encoder pools: as the settings say, else as its folder says.

    Raises:
        InputError: Neither says.
    """
    mode, normalize = task.pooling
    mode = mode or (stored.mode if stored else None)
    if mode is None:
        raise InputError(
            f"{folder} does not say how its tokens are pooled (it has no modules.json).",
            hint="Set data.embedding.pooling to mean or cls.",
        )
    return Pooling(mode, normalize if normalize is not None else (stored.normalize if stored else True))


def is_generic(names: Sequence[str]) -> bool:
    """Whether these label names say nothing beyond their number."""
    return all(_GENERIC.fullmatch(name) for name in names)


def _compare(stored: Sequence[str], given: Sequence[str]) -> None:
    if [name.casefold() for name in stored] == [name.casefold() for name in given]:
        return
    same = sorted(map(str.casefold, stored)) == sorted(map(str.casefold, given))
    raise InputError(
        f"The model's labels are {', '.join(stored)}; the data's are {', '.join(given)}"
        f"{', the same names in another order' if same else ''}.",
        hint=f"Set data.labels to [{', '.join(stored)}]."
        if same
        else "Use data with the model's labels, or start from the encoder this model was fine-tuned from.",
    )

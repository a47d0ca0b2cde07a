"""What the steps share before the work: the task, its data as token ids, and the labels that tie them to a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transformers import PreTrainedTokenizerBase

from compressbert.config.schema import DataConfig, ModelSource
from compressbert.data.encode import Encoded, encode
from compressbert.data.labels import are_integers, is_generic
from compressbert.data.own_vocabulary import same_pieces
from compressbert.data.read import Split, label_names_of, read_split
from compressbert.data.unlabelled import read_unlabelled
from compressbert.errors import ConfigError, InputError
from compressbert.measure.runners import config_folder
from compressbert.model.checkpoint import load_tokenizer
from compressbert.progress import note
from compressbert.tasks.base import Task, task_for

SplitName = Literal["train", "validation"]


@dataclass(frozen=True)
class Inputs:
    """A task, the splits a step asked for, and texts without labels where it reads them."""

    task: Task
    config: DataConfig
    splits: dict[SplitName, Split]
    unlabelled: Split | None = None

    def encoded(self, split: SplitName, tokenizer: PreTrainedTokenizerBase) -> Encoded | None:
        """Return a split as token ids, from the cache where possible; None where there is no such split."""
        return self._encode(self.splits.get(split), tokenizer)

    def encoded_unlabelled(self, tokenizer: PreTrainedTokenizerBase) -> Encoded | None:
        """Return the texts without labels as token ids; None where there are none."""
        return self._encode(self.unlabelled, tokenizer)

    def _encode(self, split: Split | None, tokenizer: PreTrainedTokenizerBase) -> Encoded | None:
        if split is None:
            return None
        return encode(split, tokenizer, task=self.task, max_length=self.config.max_length)

    def required(self, split: SplitName, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Return a split that was asked for as needed, as token ids."""
        return encode(self.splits[split], tokenizer, task=self.task, max_length=self.config.max_length)


def artefact_folder(path: Path) -> Path:
    """Return the folder with the config and tokenizer of a model folder, an export folder or an .onnx file.

    Raises:
        InputError: There is none.
    """
    folder = config_folder(path)
    if folder is None:
        raise InputError(
            f"no config.json beside {path}",
            hint="Keep the .onnx file in the folder that `compressbert export` wrote.",
        )
    return folder


def stored_label_names(source: ModelSource) -> tuple[str, ...] | None:
    """Return the label names a local model was trained with, in the order of its ids.

    None for a model without names of its own (LABEL_0, …). A model on the hub is compared when it is loaded.
    """
    path = Path(source.path)
    if not path.exists():
        return None
    ordered = output_names(path)
    return None if not ordered or is_generic(ordered) else ordered


def output_names(path: Path) -> tuple[str, ...]:
    """Return the names of a local model's outputs as its config has them, placeholders among them.

    Empty without a config. transformers writes no names where there are two without names.
    """
    config = _config(path)
    names = config.get("id2label") or ({"0": "LABEL_0", "1": "LABEL_1"} if config else {})
    return tuple(str(names[key]) for key in sorted(names, key=int))


def _config(path: Path) -> dict[str, dict[str, str]]:
    folder = config_folder(path)
    if folder is None:
        return {}
    file = folder / "config.json"
    try:
        found: dict[str, dict[str, str]] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is not JSON: {error}", hint="Restore the model folder.") from error
    return found


def read_inputs(
    data: DataConfig,
    source: ModelSource,
    *,
    needs: Sequence[SplitName] = (),
    also: Sequence[SplitName] = (),
    new_head: bool = False,
    unlabelled_seed: int | None = None,
) -> Inputs:
    """Read the splits a step works on and settle its task.

    Args:
        data: The data section.
        source: The model whose label names the data must agree with.
        needs: Splits that must be there.
        also: Splits to read if they are configured.
        new_head: The model may get a new head: its label names bind the data only if they are the same set.
        unlabelled_seed: Read the texts without labels too, if there are any, drawn with this seed.

    Raises:
        ConfigError: A needed split is not configured.
        InputError: The data or its labels are unusable, or label names disagree.
    """
    for split in needs:
        if getattr(data, split) is None and data.hub is None:
            raise ConfigError(
                f"data.{split} is needed and missing", hint=f"Add `{split}: FILE` to the data section."
            )
    names = stored_label_names(source)
    if new_head and names is not None and not _same_labels(names, label_names_of(data)):
        names = None
    wanted = [*needs, *(split for split in also if getattr(data, split) is not None or data.hub is not None)]
    splits = {split: read_split(data, split, label_names=names) for split in wanted}
    read = unlabelled_seed is not None and data.unlabelled.files
    unlabelled = read_unlabelled(data, names or (), seed=unlabelled_seed or 0) if read else None
    known = [*splits.values(), *([unlabelled] if unlabelled else [])]
    if not known:
        raise ConfigError(
            "the data section names no data", hint="Add `train: FILE` and `validation: FILE` to it."
        )
    return Inputs(task_for(data, known[0].label_names), data, splits, unlabelled)


def _same_labels(model: Sequence[str], data: Sequence[str]) -> bool:
    return set(model) == set(data) or (are_integers(data) and len(model) == len(data))


def validation_lengths(data: DataConfig, path: Path) -> list[int] | None:
    """Return the word pieces of each validation row, by the tokenizer beside ``path``; None without a split."""
    if data.validation is None and data.hub is None:
        return None
    split = read_split(data, "validation", need_labels=False)
    tokenizer = load_tokenizer(artefact_folder(path))
    encoded = encode(split, tokenizer, task=task_for(data, ("a", "b")), max_length=data.max_length)
    return [int(length) for length in encoded.lengths]


def own_lengths(data: DataConfig, candidates: Mapping[str, Path]) -> dict[str, list[int]]:
    """Return the word pieces of each validation row for the candidates whose tokenizer is not the first one's.

    Where rows are split into windows and another tokenizer makes more or fewer of them, a note says that the
    candidate is timed at the first one's lengths.
    """
    if data.validation is None and data.hub is None:
        return {}
    (_, first), *others = candidates.items()
    baseline = load_tokenizer(artefact_folder(first))
    texts = validation_lengths(data, first) or []
    found = {}
    for name, path in others:
        if config_folder(path) is None or same_pieces(load_tokenizer(artefact_folder(path)), baseline):
            continue
        lengths = validation_lengths(data, path) or []
        if len(lengths) != len(texts):
            note(f"{name} splits contexts into other windows; it is timed at the baseline's lengths.")
            continue
        mean, theirs = (sum(values) / len(values) for values in (lengths, texts))
        note(
            f"{name} has its own tokenizer: {mean:.1f} word pieces a row, where the baseline has {theirs:.1f}."
        )
        found[name] = lengths
    return found


def validation_texts(data: DataConfig) -> list[tuple[str, str | None]]:
    """Return each validation row's text and second text, if it has one; nothing without a split."""
    if data.validation is None and data.hub is None:
        return []
    rows = read_split(data, "validation", need_labels=False).rows
    pairs = rows["text_pair"] if "text_pair" in rows.column_names else [None] * len(rows)
    return list(zip(rows["text"], pairs, strict=True))

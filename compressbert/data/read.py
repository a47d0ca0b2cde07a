"""Reads a split: rows with a text, perhaps a second text, and a label that is checked and turned into its
id.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from compressbert import progress
from compressbert.config.problems import suggestion
from compressbert.config.schema import DataConfig
from compressbert.data.answers import ANSWERS, AnswersColumn
from compressbert.data.columns import TEXT_NAMES, ColumnNames, choose_columns
from compressbert.data.diagnose import find_fault
from compressbert.data.files import disk_full, format_of, key_of
from compressbert.data.label_columns import LabelColumn
from compressbert.data.tables import Table, quiet, read_file, read_hub
from compressbert.data.words import WORDS, check_counts, joined, read_words
from compressbert.errors import ConfigError, InputError

SplitName = Literal["train", "validation"]
_ROWS_AT_ONCE = 2000
_SCHEMA = 2  # raise it when the meaning of stored rows changes
_NAMELESS = (
    "regression",
    "question-answering",
    "sentence-embedding",
    "masked-lm",
)  # kinds without label names


@dataclass(frozen=True)
class Split:
    """Rows of a split.

    Attributes:
        rows: Columns ``text``, ``text_pair`` where there is a second text, and ``label`` where the task has
            one: an id (int64), a number (float32), or 0 and 1 for each class (fixed-size list of float32).
            Token classification: ``words`` besides their joined ``text``, and a list of ids. Question
            answering: the question is the text and the context the second one; ``answers`` instead of a
            label. Memory-mapped, in file order.
        label_names: In the order of the ids; empty where the kind of task has none.
        files: Path (or hub name) to sha256 (or fingerprint), for keys and records.
    """

    rows: datasets.Dataset
    label_names: tuple[str, ...]
    files: dict[str, str]


def read_split(
    config: DataConfig,
    name: SplitName,
    *,
    label_names: Sequence[str] | None = None,
    need_labels: bool = True,
) -> Split:
    """Read and check one split.

    Args:
        config: The data section.
        name: Which split.
        label_names: The names of the model the data is for, in the order of its ids. Placeholders (LABEL_0,
            …) fix the number of labels only. Without, the names are those of `label_names_of`.
        need_labels: False reads the texts alone, for measuring lengths or making soft labels.

    Raises:
        ConfigError: The split is not configured, or its columns cannot be guessed.
        InputError: The file or a row of it is unusable (the message says which line), or label names
            disagree.
    """
    table = _table(config, name, labelled=need_labels)
    labelled = need_labels and config.task != "masked-lm"
    if config.task == "sentence-embedding" and not _has_pairs(config, table):
        labelled = False  # plain texts, whose targets are a teacher's vectors
    columns = choose_columns(
        config.columns, table.rows.column_names, label=labelled, where=table.name, kind=config.task
    )
    if columns.guessed and table.rows.column_names != ["text"]:
        progress.note_once(f"{table.name}: columns {columns} (guessed)")
    names: tuple[str, ...] = ()
    label: LabelColumn | AnswersColumn | None = None
    if labelled and config.task == "question-answering":
        label = AnswersColumn(table, str(columns.label), unanswerable=config.answers.unanswerable)
    elif labelled:
        label = LabelColumn(table, str(columns.label), config.task)
        names = _names(config, label, name, label_names)
        label.check(names)
    limit = config.max_train_rows if name == "train" else config.max_validation_rows
    words = config.task == "token-classification"
    rows = _normalised(table, columns, label, names, limit, words=words)
    if config.task == "sequence-classification" and label is not None:
        _check_classes(rows, name, table.name, names)
    return Split(rows, names, table.files)


def _has_pairs(config: DataConfig, table: Table) -> bool:
    """Whether rows of sentence embedding hold two texts (and then a score)."""
    present = table.rows.column_names
    if config.columns.text_pair or config.columns.label:
        return True
    return any(len(names) == 2 and set(names) <= set(present) for names in TEXT_NAMES)


def label_names_of(config: DataConfig) -> tuple[str, ...]:
    """The label names of a data section in the order of their ids: ``data.labels``, else what the data set
    declares, else the distinct labels of the training data (of the validation data where there is none):
    numbers by size, strings by alphabet. Empty for the kinds of task without names.
    """
    if config.task in _NAMELESS:
        return ()
    name: SplitName = "train" if config.train or config.hub else "validation"
    table = _table(config, name)
    columns = choose_columns(
        config.columns, table.rows.column_names, label=True, where=table.name, kind=config.task
    )
    return LabelColumn(table, str(columns.label), config.task).settle(config.labels, None)


def column_values(config: DataConfig, name: SplitName, column: str) -> list[Any]:
    """Any column of a split as it stands in the file, in the order of `read_split`'s rows.

    Raises:
        ConfigError: There is no such column.
    """
    table = _table(config, name)
    known = table.rows.column_names
    if column not in known:
        raise ConfigError(
            f"{table.name} has no column {column!r}{suggestion(column, known)}",
            hint=f"Its columns: {', '.join(known)}.",
        )
    limit = config.max_train_rows if name == "train" else config.max_validation_rows
    values: list[Any] = table.rows.with_format(None)[column][:limit]
    return list(values)


def _names(config: DataConfig, label: LabelColumn, name: str, model: Sequence[str] | None) -> tuple[str, ...]:
    if config.task in _NAMELESS:
        return ()
    if model is None and name == "validation" and (config.train or config.hub):
        model = label_names_of(config)
    return label.settle(config.labels, model)


def _table(config: DataConfig, name: SplitName, *, labelled: bool = True) -> Table:
    source = config.train if name == "train" else config.validation
    if config.hub is not None and not (source is not None and _is_file(source)):
        return read_hub(config.hub, source or name)
    if source is None:
        raise ConfigError(
            f"data.{name}: expected a file, found nothing",
            hint=f"Set data.{name} to a file, or data.hub to a data set on the hub.",
        )
    table = read_file(Path(source))
    text_alone = not labelled or config.task in ("masked-lm", "sentence-embedding")
    if table.path and format_of(table.path) == "txt" and not text_alone:
        raise ConfigError(
            f"{source}: a txt file has texts but no labels, which task {config.task} needs",
            hint="Give csv, tsv, json, jsonl or parquet, or set data.task to masked-lm.",
        )
    return table


def _is_file(source: str) -> bool:
    """Whether ``source`` means a file, though a hub data set is named too: a file stands in for a split."""
    path = Path(source)
    return path.is_file() or path.parent != Path() or path.suffix != ""


def _normalised(
    table: Table,
    columns: ColumnNames,
    label: LabelColumn | AnswersColumn | None,
    names: tuple[str, ...],
    limit: int | None,
    *,
    words: bool,
) -> datasets.Dataset:
    """The rows with our column names, checked texts and label ids, in a memory-mapped file of the cache."""
    plain_text = table.path is not None and format_of(table.path) == "txt"
    rows = table.rows
    if limit is not None and not plain_text and limit < len(rows):
        rows = rows.select(range(limit))
    features: dict[str, Any] = {"text": datasets.Value("large_string")}
    if columns.text_pair:
        features["text_pair"] = datasets.Value("large_string")
    if words:
        features["words"] = WORDS
    if isinstance(label, AnswersColumn):
        features["answers"] = ANSWERS
    elif label is not None:
        features["label"] = label.feature(len(names))
    parts = (
        _SCHEMA,
        sorted(table.files.values()),
        str(columns),
        sorted(features),
        names,
        label and (label.unanswerable if isinstance(label, AnswersColumn) else label.kind),
        len(rows),
        plain_text,
        words,
    )
    rows = _mapped(
        rows.with_format("arrow"),
        _converter(table, columns, label, names, skip_blank=plain_text, words=words),
        features=datasets.Features(features),
        new_fingerprint=key_of("split", *parts),
    )
    if len(rows) == 0:
        raise InputError(f"{table.name}: has no rows that are not blank", hint="Give a file with text in it.")
    return rows.select(range(limit)) if limit is not None and limit < len(rows) else rows


def _mapped(rows: datasets.Dataset, convert: Callable[..., pa.Table], **settings: Any) -> datasets.Dataset:
    """Apply ``convert`` to batches of rows, once for each fingerprint; a damaged result in the cache is made anew."""
    settings |= {"batched": True, "batch_size": _ROWS_AT_ONCE, "with_indices": True}
    settings |= {"remove_columns": rows.column_names}
    try:
        with quiet():
            try:
                return rows.map(convert, **settings).with_format(None)
            except pa.ArrowInvalid:
                return rows.map(convert, load_from_cache_file=False, **settings).with_format(None)
    except OSError as error:
        raise disk_full(error) or error from error


def _converter(
    table: Table,
    columns: ColumnNames,
    label: LabelColumn | AnswersColumn | None,
    names: tuple[str, ...],
    *,
    skip_blank: bool,
    words: bool,
) -> Callable[[pa.Table, list[int]], pa.Table]:
    def convert(batch: pa.Table, indices: list[int]) -> pa.Table:
        first = int(indices[0])
        found: dict[str, Any] = {}
        if words:
            found["words"] = read_words(batch, columns.text, table, first, split_texts=label is None)
        found["text"] = joined(found["words"]) if words else _texts(batch, columns.text, table, first)
        if columns.text_pair:
            found["text_pair"] = _texts(batch, columns.text_pair, table, first)
        if isinstance(label, AnswersColumn):
            _refuse_blank(found["text_pair"], str(columns.text_pair), table, first)
            found["answers"] = label.convert(batch, found["text_pair"].to_pylist(), first)
        elif label is not None:
            found["label"] = label.convert(batch, names, first)
            if words:
                check_counts(found["words"], found["label"], table, first)
        result = pa.table(found)
        if skip_blank:
            result = result.filter(pc.invert(_blank(result["text"])))
        return result

    return convert


def _blank(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0)


def _refuse_blank(texts: pa.ChunkedArray, column: str, table: Table, first: int) -> None:
    blank = np.flatnonzero(_blank(texts).to_numpy())
    if len(blank):
        raise InputError(
            f"{table.place(first + int(blank[0]))}: expected a context in {column!r}, found an empty one",
            hint="Drop the row.",
        )


def _texts(batch: pa.Table, column: str, table: Table, first: int) -> pa.ChunkedArray:
    values = batch[column]
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        raise InputError(
            f"{table.name}: expected text in column {column!r}, found {values.type}",
            hint="Name the column that holds the text: --columns text=COLUMN.",
        )
    if values.null_count:
        row = first + int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
        raise InputError(
            f"{table.place(row)}: expected a text in {column!r}, found none", hint="Fill or drop the row."
        )
    if table.path and format_of(table.path) in ("csv", "tsv") and pc.any(pc.equal(values, "")).as_py():
        _check_short_rows(table.path)
    return values.cast(pa.large_string())


def _check_short_rows(path: Path) -> None:
    """An empty cell may be a row with too few fields, which the csv reader fills up without a word."""
    fault = find_fault(path)
    if fault is not None:
        raise InputError(f"{fault.where}: {fault.what}", hint=fault.hint or "Correct the line.")


def _check_classes(rows: datasets.Dataset, name: str, where: str, names: tuple[str, ...]) -> None:
    """One class alone cannot be learned, and scoring on it says little."""
    present = rows.unique("label")
    if len(present) > 1:
        return
    said = f"{where}: all {len(rows):,} rows have the label {names[present[0]]!r}"
    if name == "train":
        raise InputError(f"{said}; training needs at least two classes", hint="Add rows of another class.")
    progress.warn(f"{said}; accuracy on one class says little")

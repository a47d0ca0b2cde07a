"""The label column of a table: its distinct values, the names they stand for, and its conversion to ids."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from compressbert.config.schema import TaskKind
from compressbert.data.labels import LabelValue, explain_unknown, ids_of, plain, settle_names, worst_of
from compressbert.data.tables import Table
from compressbert.errors import InputError

_ROWS_AT_ONCE = 50_000
_NUMBERS = ("regression", "sentence-embedding")  # kinds whose label is a number


class LabelColumn:
    """One column of labels, read for one kind of task.

    Accepted: integers, strings, true/false, ClassLabel ids; numbers (or strings of them) for regression and
    scores of pairs; lists of any of these for token classification; for multi-label, such lists too, or lists
    with a 0 or 1 for each class.
    """

    def __init__(self, table: Table, column: str, kind: TaskKind) -> None:
        self.table, self.column, self.kind = table, column, kind
        feature = table.rows.features[column]
        self.is_list = pa.types.is_list(_type(table, column)) or pa.types.is_large_list(_type(table, column))
        inner = getattr(feature, "feature", feature) if self.is_list else feature
        self.stored: tuple[str, ...] | None = (
            tuple(inner.names) if isinstance(inner, datasets.ClassLabel) else None
        )
        if self.is_list != (kind in ("multi-label", "token-classification")):
            found = "lists" if self.is_list else str(_type(table, column))
            expected = "one label a row" if self.is_list else "lists of labels"
            raise InputError(
                f"{table.name}: expected {expected} in column {column!r} (task {kind}), found {found}",
                hint="Set data.task to multi-label for lists of labels or to token-classification for a tag "
                "for each word, else correct data.columns.label.",
            )

    def settle(self, configured: Sequence[str] | None, model: Sequence[str] | None) -> tuple[str, ...]:
        """The label names in the order of their ids (`labels.settle_names`); multi-hot columns are named 0,
        1, …
        """
        values = list(range(self.width)) if self.width else self.values
        return settle_names(
            values, configured=configured, stored=self.stored, model=model, where=self.table.name
        )

    def check(self, names: Sequence[str]) -> None:
        """Refuse labels without an id, naming the first such row (InputError)."""
        if self.kind in _NUMBERS:
            return
        if self.width:
            if self.width != len(names):
                raise InputError(
                    f"{self.table.name}: expected {len(names)} numbers a row in {self.column!r}, "
                    f"found {self.width}",
                    hint="Give one 0 or 1 for each label name, or lists of names.",
                )
            return
        known = ids_of(self.values, names, stored=self.stored is not None)
        unknown = [value for value in self.values if value not in known]
        if unknown:
            worst = worst_of(unknown)
            raise explain_unknown(worst, self.values, names, self.table.place(self._first_row_with(worst)))

    def feature(self, classes: int) -> Any:
        """The type of the converted column."""
        if self.kind == "multi-label":
            return datasets.List(datasets.Value("float32"), length=classes)
        if self.kind == "token-classification":
            return datasets.List(datasets.Value("int64"))
        return datasets.Value("float32" if self.kind in _NUMBERS else "int64")

    def convert(self, batch: pa.Table, names: Sequence[str], first: int) -> pa.Array:
        """Ids, numbers, lists of ids, or a 0 and 1 for each class. ``first`` is the number of the batch's
        first row.
        """
        column = batch[self.column].combine_chunks()
        if self.kind in _NUMBERS:
            return self._numbers(column, first)
        self._refuse_null(column, first)
        if self.kind == "multi-label":
            return self._multi_hot(column, names)
        if self.kind == "token-classification":
            ends = np.cumsum(pc.list_value_length(column).to_numpy(zero_copy_only=False))
            offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
            return pa.ListArray.from_arrays(offsets, pa.array(self._ids(column.flatten(), names)))
        return pa.array(self._ids(column, names))

    @cached_property
    def values(self) -> list[str | int]:
        """Distinct labels, in order of first appearance; nulls left out (`convert` reports their row)."""
        found: dict[LabelValue, None] = {}
        for _, column in self._chunks():
            flat = column.flatten() if self.is_list else column
            found.update(dict.fromkeys(value for value in flat.unique().to_pylist() if value is not None))
        return list(dict.fromkeys(plain(value) for value in found))

    @cached_property
    def width(self) -> int:
        """Classes of a multi-hot column: every row has as many entries, at least two, each 0 or 1. Else 0."""
        if self.kind == "token-classification":
            return 0
        widths: set[int] = set()
        for _, column in self._chunks():
            if not self.is_list or not _is_number(column.type.value_type) or column.null_count:
                return 0
            widths.update(pc.list_value_length(column).unique().to_pylist())
            if len(widths) != 1 or not set(column.flatten().unique().to_pylist()) <= {0, 1}:
                return 0
        width = widths.pop() if widths else 0
        return width if width >= 2 else 0

    def _chunks(self) -> list[tuple[int, Any]] | Any:
        rows = self.table.rows.select_columns([self.column]).with_format("arrow")
        first = 0
        for batch in rows.iter(batch_size=_ROWS_AT_ONCE):
            yield first, batch[self.column].combine_chunks()
            first += batch.num_rows

    def _first_row_with(self, value: str | int) -> int:
        for first, column in self._chunks():
            for offset, found in enumerate(column.to_pylist()):
                entries = found if isinstance(found, list) else [found]
                if any(entry is not None and plain(entry) == value for entry in entries):
                    return first + offset
        return 0

    def _ids(self, flat: pa.Array, names: Sequence[str]) -> np.ndarray[Any, Any]:
        """The id of each entry, through the distinct values alone."""
        encoded = flat.dictionary_encode()
        distinct = [plain(value) for value in encoded.dictionary.to_pylist()]
        known = ids_of(self.values, names, stored=self.stored is not None)
        table = np.array([known[value] for value in distinct], dtype=np.int64)
        indices = encoded.indices.to_numpy(zero_copy_only=False)
        ids: np.ndarray[Any, Any] = table[indices] if len(table) else np.zeros(0, dtype=np.int64)
        return ids

    def _multi_hot(self, column: Any, names: Sequence[str]) -> pa.Array:
        classes = len(names)
        if self.width:
            dense = column.flatten().cast(pa.float32())
        else:
            rows = np.repeat(
                np.arange(len(column)), pc.list_value_length(column).to_numpy(zero_copy_only=False)
            )
            hot = np.zeros((len(column), classes), dtype=np.float32)
            hot[rows, self._ids(column.flatten(), names)] = 1.0
            dense = pa.array(hot.reshape(-1))
        return pa.FixedSizeListArray.from_arrays(dense, classes)

    def _numbers(self, column: pa.Array, first: int) -> pa.Array:
        self._refuse_null(column, first)
        if pa.types.is_boolean(column.type) or not (_is_number(column.type) or _is_text(column.type)):
            raise InputError(
                f"{self.table.name}: expected numbers in column {self.column!r}, found {column.type}",
                hint="Name the column of the numbers: --columns label=COLUMN.",
            )
        values = np.array([_number(value) for value in column.to_pylist()], dtype=np.float64)
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            row = int(wrong[0])
            place, found = self.table.place(first + row), column[row].as_py()
            raise InputError(
                f"{place}: expected a finite number in {self.column!r}, found {found}",
                hint="Correct or drop the row.",
            )
        return pa.array(values.astype(np.float32))

    def _refuse_null(self, column: pa.Array, first: int) -> None:
        nulls = column.is_null()
        if self.is_list and column.flatten().null_count:
            nulls = pa.array([value is None or None in value for value in column.to_pylist()])
        missing = np.flatnonzero(nulls.to_numpy(zero_copy_only=False))
        if len(missing):
            place = self.table.place(first + int(missing[0]))
            raise InputError(
                f"{place}: expected a label in {self.column!r}, found none", hint="Fill or drop the row."
            )


def _type(table: Table, column: str) -> pa.DataType:
    return table.rows.features.arrow_schema.field(column).type


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _number(value: Any) -> float:
    try:
        return float(value)
    except ValueError:
        return float("nan")

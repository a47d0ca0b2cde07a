"""Finds the line of a data file that made reading fail, so that the message can name it.

Files are parsed by the fast readers of `datasets`, whose errors name a block at best. Only when they fail, or
when a row turns out to be unusable, is the file walked line by line here.
"""

from __future__ import annotations

import csv
import json
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from compressbert.data.files import Format, format_of, open_bytes
from compressbert.errors import InputError


class _Csv(csv.excel):
    strict = True


class _Tsv(csv.excel_tab):
    quoting = csv.QUOTE_NONE


_ALIKE = "Give every row the same columns, each with one kind of value."


@dataclass(frozen=True)
class Fault:
    """What is wrong with a file: ``where`` (file:line), ``what`` and what to do."""

    where: str
    what: str
    hint: str = ""


class _Found(Exception):
    def __init__(self, line: int | None, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.line, self.what, self.hint = line, what, hint


def find_fault(path: Path) -> Fault | None:
    """The first fault of a text file, or None where a line-by-line reading sees nothing wrong."""
    kind = format_of(path)
    try:
        if kind == "parquet":
            return None
        if kind == "json":
            _scan_json(path)
        elif kind == "txt":
            for _ in _lines(path):
                pass
        else:
            _scan_table(path, kind)
    except _Found as found:
        where = f"{path}:{found.line}" if found.line else str(path)
        return Fault(where, found.what, found.hint)
    return None


def place_of(path: Path, row: int) -> str:
    """Where row ``row`` (from 0) of a file stands: file:line where a row is a line, else the row's number
    from 1.
    """
    kind = format_of(path)
    try:
        if kind in ("csv", "tsv"):
            line = next(islice(_records(path, kind), row + 1, None))[0]  # after the header
        elif kind == "json" and not _is_array(path):
            line = next(islice((number for number, text in _lines(path) if text.strip()), row, None))
        elif kind == "txt":
            line = next(islice((number for number, _ in _lines(path)), row, None))
        else:
            return f"{path}, row {row + 1}"
    except (_Found, StopIteration):
        return f"{path}, row {row + 1}"
    return f"{path}:{line}"


def header_of(path: Path) -> list[str]:
    """Column names in the first record of a csv or tsv file; a column without one is named as pandas does.

    InputError if the header cannot be read, or if the first row has another number of fields.
    """
    try:
        first = list(islice(_records(path, format_of(path)), 2))
        for number, fields in first[
            1:
        ]:  # pandas would take a surplus field for an index and shift the columns
            _check_fields(number, fields, first[0][1])
    except _Found as found:
        raise InputError(
            f"{path}:{found.line}: {found.what}", hint=found.hint or "Correct the line."
        ) from found
    return [name or f"Unnamed: {index}" for index, name in enumerate(first[0][1] if first else [])]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines, decoded; a byte that is not UTF-8 or a broken gzip stream ends the walk with
    `_Found`.
    """
    number = 0
    try:
        with open_bytes(path) as file:
            for number, raw in enumerate(file, start=1):
                text = _decoded(raw, number)
                yield number, text.removeprefix("\ufeff") if number == 1 else text
    except (EOFError, zlib.error, OSError) as error:
        raise _Found(
            number + 1, f"the file cannot be read on: {error}", "Copy or compress the file again."
        ) from error


def _decoded(raw: bytes, number: int) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        what = (
            f"expected UTF-8 text, found byte 0x{raw[error.start]:02x} at byte {error.start + 1} of the line"
        )
        raise _Found(number, what, "Convert the file: iconv -f latin1 -t utf-8 OLD > NEW") from error


def _is_array(path: Path) -> bool:
    with open_bytes(path) as file:
        return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def _kind(value: Any) -> str:
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), "null")


def _scan_json(path: Path) -> None:
    if _is_array(path):
        try:
            json.loads("".join(text for _, text in _lines(path)))
        except json.JSONDecodeError as error:
            raise _Found(error.lineno, f"not valid JSON: {error.msg} (column {error.colno})") from error
        return
    first: dict[str, tuple[Any, int]] = {}  # column -> its first value that is not null, and the line
    late: _Found | None = None
    for number, text in _lines(path):
        if not text.strip():
            continue
        row = _object(text, number)
        started = bool(first)
        for key, value in row.items():
            if started and key not in first and late is None:
                late = _Found(number, f"column {key!r} is not in the lines before", _ALIKE)
            before, line = first.setdefault(key, (value, number))
            if before is None:
                first[key] = (value, number)
            elif value is not None and _kind(value) != _kind(before):
                what = f"column {key!r} is {_kind(value)} here and {_kind(before)} in line {line}"
                raise _Found(number, what, _ALIKE)
            elif isinstance(value, float) and isinstance(before, int) and late is None:
                late = _Found(
                    number, f"column {key!r} is {value} here and whole in line {line}", "Write 3 as 3.0."
                )
    if late is not None:  # the reader forgives these within its first chunk, so they come last
        raise late


def _object(text: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        what = f"not valid JSON: {error.msg} (column {error.colno})"
        raise _Found(number, what, "One object a line.") from error
    if not isinstance(row, dict):
        raise _Found(number, f"expected a JSON object, found {_kind(row)}", "One object a line.")
    return row


def _records(path: Path, kind: Format) -> Iterator[tuple[int, list[str]]]:
    """Records of a table with the line each begins on; quotes mean nothing in tsv. Blank lines are
    skipped.
    """
    limit = csv.field_size_limit(sys.maxsize)
    dialect = _Tsv if kind == "tsv" else _Csv
    reader = csv.reader((text for _, text in _lines(path)), dialect)
    start = 1
    try:
        for fields in reader:
            if fields:
                yield start, fields
            start = reader.line_num + 1
    except csv.Error as error:
        what = (
            "a quote that opens here is never closed"
            if "unexpected end" in str(error)
            else f"not valid csv: {error}"
        )
        raise _Found(start, what, 'Write a quote inside a field as "".') from error
    finally:
        csv.field_size_limit(limit)


def _scan_table(path: Path, kind: Format) -> None:
    header: list[str] | None = None
    for number, fields in _records(path, kind):
        if header is None:
            header = fields
        else:
            _check_fields(number, fields, header)


def _check_fields(number: int, fields: list[str], header: list[str]) -> None:
    if len(fields) != len(header):
        what = f"expected {len(header)} fields ({', '.join(header)}), found {len(fields)}"
        raise _Found(number, what, "Quote a csv field that holds a comma; drop surplus separators.")

"""The answers column of question answering: checked against the context they must stand in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import pyarrow as pa

from compressbert.data.tables import Table
from compressbert.errors import InputError

ANSWERS = {
    "text": datasets.List(datasets.Value("string")),
    "answer_start": datasets.List(datasets.Value("int64")),
}
_TYPE = pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int64()))])
_HINT = 'Give answers as {"text": ["1858"], "answer_start": [42]}, counted in characters from 0.'


class AnswersColumn:
    """One column of answers, as SQuAD has them: texts, and the character of the context each starts at."""

    def __init__(self, table: Table, column: str, *, unanswerable: bool) -> None:
        self.table, self.column, self.unanswerable = table, column, unanswerable
        kind = table.rows.features.arrow_schema.field(column).type
        names = {field.name for field in kind} if pa.types.is_struct(kind) else set()
        if not names >= {"text", "answer_start"}:
            raise InputError(
                f"{table.name}: expected answers with text and answer_start in column {column!r}, found {kind}",
                hint=_HINT,
            )

    def convert(self, batch: pa.Table, contexts: Sequence[str], first: int) -> pa.Array:
        """The answers of some rows, each found at its place.

        Args:
            batch: The rows.
            contexts: Their contexts.
            first: Number of the batch's first row.

        Raises:
            InputError: A row without an answer, or an answer that does not stand where it should.
        """
        rows = []
        for offset, (answers, context) in enumerate(
            zip(batch[self.column].to_pylist(), contexts, strict=True)
        ):
            rows.append(self._checked(answers or {}, context, first + offset))
        return pa.array(rows, type=_TYPE)

    def _checked(self, answers: dict[str, Any], context: str, row: int) -> dict[str, Any]:
        texts, starts = answers.get("text") or [], answers.get("answer_start") or []
        if len(texts) != len(starts):
            raise InputError(
                f"{self.table.place(row)}: expected a start for each answer, found {len(texts)} texts and "
                f"{len(starts)} starts",
                hint=_HINT,
            )
        if not texts and not self.unanswerable:
            raise InputError(
                f"{self.table.place(row)}: the question has no answer",
                hint="If some questions have none, set data.answers.unanswerable: true; else drop the row.",
            )
        for text, start in zip(texts, starts, strict=True):
            if not text or start is None or start < 0 or context[start : start + len(text)] != text:
                found = (
                    context[start : start + len(text)] if text and start is not None and start >= 0 else ""
                )
                raise InputError(
                    f"{self.table.place(row)}: expected the answer {text!r} at character {start} of the "
                    f"context, found {found!r}",
                    hint="Correct answer_start (it counts characters, not bytes, from 0), or drop the row.",
                )
        return {"text": texts, "answer_start": starts}

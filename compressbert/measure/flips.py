"""Rows whose predicted label changed: listed in a file, the worst of them in the report.

Order: rows the candidate newly gets wrong come first, the surest of these errors at the top; then rows that were
wrong and are wrong in another way; rows that it newly gets right come last.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compressbert.errors import InputError
from compressbert.measure.quality import Logits, Quality, decided, right_rows
from compressbert.results.record import Comparison, Flip
from compressbert.tasks.base import Task

if TYPE_CHECKING:
    from compressbert.data.read import Split

WORST = 20


def margins(logits: Logits, task: Task) -> NDArray[np.float64]:
    """How sure each row of logits (N, C) is, as (N,): best minus second best; multi-label: nearest to 0."""
    values = logits.astype(np.float64)
    if task.kind == "multi-label":
        nearest: NDArray[np.float64] = np.abs(values).min(axis=1)
        return nearest
    ordered = np.sort(values, axis=1)
    difference: NDArray[np.float64] = ordered[:, -1] - ordered[:, -2]
    return difference


def sureness(quality: Quality, task: Task) -> NDArray[np.float64]:
    """How sure each row's decision is, as (N,)."""
    return margins(quality.logits, task) if quality.margins is None else quality.margins.astype(np.float64)


def flips(
    comparison: Comparison,
    *,
    baseline: Quality,
    candidate: Quality,
    labels: NDArray[Any],
    split: Split,
    task: Task,
) -> Iterator[Flip]:
    """The flipped rows, worst first (see the module), with text, label and both decisions by name.

    Raises:
        InputError: The task decides nothing that could flip.
    """
    old, new = decided(baseline, task), decided(candidate, task)
    if old is None or new is None or comparison.flips is None:
        raise InputError(f"A {task.kind} task has no labels that could flip.")
    before, after = sureness(baseline, task), sureness(candidate, task)
    was, now = right_rows(baseline, old), right_rows(candidate, new)
    rank = np.where(now, 2, np.where(was, 0, 1))
    for row in sorted(comparison.flips, key=lambda row: (rank[row], -after[row], row)):
        shown: Mapping[str, Any] = split.rows[row]
        yield Flip(
            row=row,
            text=shown["text"],
            text_pair=shown.get("text_pair"),
            label=_truth(shown, labels[row], task.label_names),
            baseline=_named(old[row], task.label_names),
            candidate=_named(new[row], task.label_names),
            baseline_margin=round(float(before[row]), 4),
            candidate_margin=round(float(after[row]), 4),
        )


def _truth(row: Mapping[str, Any], label: Any, names: Sequence[str]) -> str:
    if "words" in row:
        return " ".join(names[tag] for tag in row["label"])
    if "answers" in row:
        return " | ".join(dict.fromkeys(row["answers"]["text"])) or "(no answer)"
    return _named(label, names)


def _named(decided: Any, names: Sequence[str]) -> str:
    if isinstance(decided, str):
        return decided
    if np.ndim(decided) == 0:
        return names[int(decided)]
    return ", ".join(name for name, chosen in zip(names, decided, strict=True) if chosen)


def write_flips(path: Path, found: Iterable[Flip]) -> None:
    """Write one JSON line per flip; a reader sees the old file or the new one."""
    temporary = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary.open("w", encoding="utf-8") as file:
        for flip in found:
            file.write(json.dumps(flip.model_dump(exclude_none=True), ensure_ascii=False) + "\n")
    temporary.replace(path)

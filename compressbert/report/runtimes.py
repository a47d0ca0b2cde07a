"""Which runtime is fastest at which shape, where a benchmark holds models of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compressbert.report.figures import cell_label
from compressbert.results.measured import CandidateTimings, cell_name
from compressbert.results.record import LatencyCell


@dataclass(frozen=True)
class Winner:
    """The fastest model at one shape, and the fastest of another runtime.

    Attributes:
        ratio: The other's median over the winner's.
        clear: Whether the intervals of the two medians lie apart.
    """

    batch: int
    length: int | None
    runtime: str
    name: str
    other_runtime: str
    other_name: str
    ratio: float
    clear: bool


def winners(rows: Sequence[CandidateTimings]) -> list[Winner]:
    """The winner of every shape that at least two runtimes were timed at."""
    shapes: dict[tuple[int, int | None], list[tuple[LatencyCell, str]]] = {}
    for row in rows:
        for cell in row.cells:
            shapes.setdefault((cell.batch, cell.length), []).append((cell, row.name))
    found = []
    for (batch, length), timed in shapes.items():
        ordered = sorted(timed, key=lambda pair: pair[0].p50_ms)
        first, name = ordered[0]
        other = next((pair for pair in ordered if pair[0].runtime != first.runtime), None)
        if other is None:
            continue
        second, other_name = other
        found.append(
            Winner(
                batch=batch,
                length=length,
                runtime=first.runtime,
                name=name,
                other_runtime=second.runtime,
                other_name=other_name,
                ratio=second.p50_ms / first.p50_ms,
                clear=first.high < second.low,
            )
        )
    return found


def sentence(found: Sequence[Winner]) -> str:
    """The winners in words: ``onnxruntime wins at 1 × 32 (1.24×); level at 1 × 128.`` Empty without any."""
    parts = []
    for runtime in dict.fromkeys(winner.runtime for winner in found):
        won = [winner for winner in found if winner.clear and winner.runtime == runtime]
        if won:
            shapes = ", ".join(f"{_shape(winner)} ({winner.ratio:.2f}×)" for winner in won)
            parts.append(f"{runtime} wins at {shapes}")
    level = [_shape(winner) for winner in found if not winner.clear]
    if level:
        parts.append(f"level at {', '.join(level)}")
    return f"Between runtimes, the best model of each: {'; '.join(parts)}." if parts else ""


def _shape(winner: Winner) -> str:
    return cell_label(cell_name(winner.batch, winner.length))

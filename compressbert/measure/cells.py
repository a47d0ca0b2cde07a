"""Shapes to time, and how the time of a round is spent on each."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compressbert.config.schema import BenchmarkSettings
from compressbert.errors import ConfigError
from compressbert.progress import note
from compressbert.results.measured import cell_name

ROUND_MS = 250.0  # what one candidate may spend on one cell in one round
_TURNS = 5  # candidates alternate so often within a cell and round
_MOST_INPUTS = 200  # of one shape in one round
_MOST_PASSES = 10  # over the inputs of a turn, for models so small that one pass is over in a blink
_FEWEST_SENTENCES = 16


@dataclass(frozen=True)
class Cell:
    """A shape to time: ``lengths`` in order; ``fixed`` is the length, or None for the data's own.

    The data's own lengths are timed one by one where ``batch`` is 1, else all in one padded batch.
    """

    batch: int
    fixed: int | None
    lengths: tuple[int, ...]

    @property
    def name(self) -> str:
        """The cell's key in reports."""
        return cell_name(self.batch, self.fixed)

    @property
    def one_by_one(self) -> bool:
        """Whether every call takes another length."""
        return self.fixed is None and self.batch == 1

    @property
    def padded(self) -> bool:
        """Whether a call takes texts of all lengths at once."""
        return self.fixed is None and self.batch > 1

    def sample(self, count: int) -> tuple[int, ...]:
        """``count`` lengths that stand for the cell's; all where it is one batch."""
        return self.lengths if self.padded else typical_lengths(self.lengths, count)


@dataclass(frozen=True)
class Turn:
    """What a candidate goes through when it has its turn: so many ``inputs``, made of ``lengths``."""

    lengths: tuple[int, ...]
    inputs: int


@dataclass(frozen=True)
class Pace:
    """What a round does in one cell: so many inputs, dealt to so many turns, gone through again and again."""

    cell: Cell
    lengths: tuple[int, ...]  # one for each input; of a padded batch, those of every input
    inputs: int
    turns: int
    passes: Mapping[str, int]  # by candidate: how often it goes through the inputs of a turn

    def deal(self, shuffler: random.Random) -> list[Turn]:
        """The turns, their lengths in random order."""
        if self.cell.padded:
            sizes = [len(range(turn, self.inputs, self.turns)) for turn in range(self.turns)]
            return [Turn(self.lengths, size) for size in sizes]
        dealt = shuffler.sample(self.lengths, len(self.lengths))
        parts = [tuple(dealt[turn :: self.turns]) for turn in range(self.turns)]
        return [Turn(part, len(part)) for part in parts]


def typical_lengths(lengths: Sequence[int], count: int) -> tuple[int, ...]:
    """``count`` lengths that stand for all: evenly spaced quantiles, so no luck of the draw."""
    ordered = np.sort(np.asarray(lengths))
    return tuple(int(ordered[place]) for place in typical_places(len(ordered), count))


def typical_places(total: int, count: int) -> list[int]:
    """``count`` places in a sorted list of ``total``, evenly spaced, each in the middle of its part."""
    places: list[int] = ((np.arange(count) + 0.5) / count * total).astype(int).tolist()
    return places


def cells_to_time(
    settings: BenchmarkSettings, lengths: Sequence[int] | None, longest: int | None
) -> list[Cell]:
    """The shapes that every candidate can take: those up to ``longest`` tokens. ConfigError if none is left."""
    cells = [Cell(batch, length, (length,)) for batch, length in settings.cells]
    if longest is not None:
        too_long = [cell.name for cell in cells if cell.lengths[0] > longest]
        if too_long:
            note(f"Not timed, since a model takes at most {longest} tokens: {', '.join(too_long)}.")
        cells = [cell for cell in cells if cell.name not in too_long]
    if lengths is not None and len(lengths):
        cut = np.minimum(np.asarray(lengths), longest) if longest is not None else lengths
        if settings.data_batch is not None:
            cells.append(Cell(settings.data_batch, None, typical_lengths(cut, settings.data_batch)))
        cells.append(Cell(1, None, typical_lengths(cut, settings.sentences)))
    if not cells:
        raise ConfigError(
            "No shape is left to time.", hint="Give data, or benchmark.cells that the models can take."
        )
    return cells


def pace(cell: Cell, call_ms: Mapping[str, float]) -> Pace:
    """Spend about `ROUND_MS` of each candidate on ``cell``, whose calls take ``call_ms``.

    All candidates run the same inputs, so the slowest one sets their number.
    """
    fewest, most = (_FEWEST_SENTENCES, len(cell.lengths)) if cell.one_by_one else (2, _MOST_INPUTS)
    count = min(int(np.clip(ROUND_MS / max(call_ms.values()), fewest, most)), most)
    passes = {name: int(np.clip(ROUND_MS / (count * ms), 1, _MOST_PASSES)) for name, ms in call_ms.items()}
    return Pace(cell, cell.sample(count), count, min(_TURNS, count), passes)

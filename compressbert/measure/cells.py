"""Shapes to time, and how the time of a round is spent on each."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

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

    The data's own lengths are timed one by one where ``batch`` is 1, else all in one padded batch. Candidates in
    ``own`` have a tokenizer of their own and take the same texts at these lengths.
    """

    batch: int
    fixed: int | None
    lengths: tuple[int, ...]
    own: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

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

    def places(self, count: int) -> tuple[int, ...]:
        """Places in ``lengths`` of ``count`` that stand for the cell's; all where it is one batch."""
        total = len(self.lengths)
        return tuple(range(total) if self.padded else typical_places(total, count))

    def at(self, places: Sequence[int], candidate: str = "") -> tuple[int, ...]:
        """The lengths at these places, as a candidate takes them."""
        lengths = self.own.get(candidate, self.lengths)
        return tuple(lengths[place] for place in places)

    def sample(self, count: int, candidate: str = "") -> tuple[int, ...]:
        """``count`` lengths that stand for the cell's; all where it is one batch."""
        return self.at(self.places(count), candidate)


@dataclass(frozen=True)
class Turn:
    """What a candidate goes through when it has its turn: so many ``inputs``, made of the cell's ``places``."""

    places: tuple[int, ...]
    inputs: int


@dataclass(frozen=True)
class Pace:
    """What a round does in one cell: so many inputs, dealt to so many turns, gone through again and again."""

    cell: Cell
    places: tuple[
        int, ...
    ]  # in the cell's lengths: one for each input; of a padded batch, those of every input
    inputs: int
    turns: int
    passes: Mapping[str, int]  # by candidate: how often it goes through the inputs of a turn

    def deal(self, shuffler: random.Random) -> list[Turn]:
        """The turns, their places in random order."""
        if self.cell.padded:
            sizes = [len(range(turn, self.inputs, self.turns)) for turn in range(self.turns)]
            return [Turn(self.places, size) for size in sizes]
        dealt = shuffler.sample(self.places, len(self.places))
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
    settings: BenchmarkSettings,
    lengths: Sequence[int] | None,
    longest: int | None,
    own: Mapping[str, Sequence[int]] | None = None,
) -> list[Cell]:
    """The shapes that every candidate can take: those up to ``longest`` tokens. ConfigError if none is left.

    ``own`` holds the lengths of the same texts for candidates with a tokenizer of their own.
    """
    cells = [Cell(batch, length, (length,)) for batch, length in settings.cells]
    if longest is not None:
        too_long = [cell.name for cell in cells if cell.lengths[0] > longest]
        if too_long:
            note(f"Not timed, since a model takes at most {longest} tokens: {', '.join(too_long)}.")
        cells = [cell for cell in cells if cell.name not in too_long]
    if lengths is not None and len(lengths):
        order = np.argsort(np.asarray(lengths), kind="stable")
        for batch, count in ((settings.data_batch, settings.data_batch), (1, settings.sentences)):
            if batch is not None and count is not None:
                rows = order[typical_places(len(order), count)]
                theirs = {name: _cut(values, rows, longest) for name, values in (own or {}).items()}
                cells.append(Cell(batch, None, _cut(lengths, rows, longest), theirs))
    if not cells:
        raise ConfigError(
            "No shape is left to time.", hint="Give data, or benchmark.cells that the models can take."
        )
    return cells


def _cut(lengths: Sequence[int], rows: NDArray[np.int64], longest: int | None) -> tuple[int, ...]:
    return tuple(min(int(lengths[row]), longest or int(lengths[row])) for row in rows)


def pace(cell: Cell, call_ms: Mapping[str, float]) -> Pace:
    """Spend about `ROUND_MS` of each candidate on ``cell``, whose calls take ``call_ms``.

    All candidates run the same inputs, so the slowest one sets their number.
    """
    fewest, most = (_FEWEST_SENTENCES, len(cell.lengths)) if cell.one_by_one else (2, _MOST_INPUTS)
    count = min(int(np.clip(ROUND_MS / max(call_ms.values()), fewest, most)), most)
    passes = {name: int(np.clip(ROUND_MS / (count * ms), 1, _MOST_PASSES)) for name, ms in call_ms.items()}
    return Pace(cell, cell.places(count), count, min(_TURNS, count), passes)

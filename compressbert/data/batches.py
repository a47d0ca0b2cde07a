"""Padded batches from token ids: length-bucketed and shuffled for training, sorted by length for
prediction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compressbert.data.encode import Encoded, token_positions
from compressbert.data.masking import NOT_SCORED, mask_tokens, noise_for_batch, noise_for_rows
from compressbert.errors import ConfigError

_BLOCK_ROWS = 1 << 22  # rows that are shuffled together; bounds the memory of an order at 32 MiB
_BUCKET_BATCHES = 50  # batches among which rows are sorted by length


@dataclass
class Batch:
    """Examples padded to the longest among them.

    Attributes:
        inputs: ``input_ids``, ``attention_mask`` and, where the model takes them, ``token_type_ids``: (B, S)
            int64.
        labels: (B,) int64, (B,) float32, (B, C) float32 of 0 and 1, (B, S) int64 for masked-lm and tags
            (-100 = not scored), (B, 2) first and last token of an answer, or None. For pairs of texts, (B/2,)
            float32: the second texts come after all first ones.
        examples: (B,) int64, sequences of the `Encoded` the batch came from: the key of cached teacher
            outputs.
        words: (B, S) int64 the word of its row that begins at a piece, -1 elsewhere; token classification only.
    """

    inputs: dict[str, Tensor]
    labels: Tensor | None
    examples: Tensor
    words: Tensor | None = None

    def __len__(self) -> int:
        return len(self.examples)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on ``device``; ``examples`` stay where they index."""
        moved = {name: tensor.to(device) for name, tensor in self.inputs.items()}
        labels, words = (None if one is None else one.to(device) for one in (self.labels, self.words))
        return Batch(moved, labels, self.examples, words)


def collate(
    encoded: Encoded, rows: NDArray[np.int64], *, pad_id: int, generator: torch.Generator | None = None
) -> Batch:
    """The batch of the examples ``rows``. For masked-lm, masks come from ``generator``, or without one from
    the row numbers alone.
    """
    sequences = encoded.sequences_of(rows)
    positions, lengths = token_positions(encoded.offsets, sequences)
    real = np.arange(int(lengths.max())) < lengths[:, None]  # (B, S)
    ids = np.full(real.shape, pad_id, dtype=np.int64)
    ids[real] = encoded.ids[positions]
    inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(real.astype(np.int64))}
    if encoded.types is not None:
        types = np.zeros(real.shape, dtype=np.int64)
        types[real] = encoded.types[positions]
        inputs["token_type_ids"] = torch.from_numpy(types)
    labels = None if encoded.labels is None else torch.from_numpy(np.array(encoded.labels[rows]))
    if encoded.token_labels is not None:
        tags = np.full(real.shape, NOT_SCORED, dtype=np.int64)
        tags[real] = encoded.token_labels[positions]
        labels = torch.from_numpy(tags)
    words = None
    if encoded.token_places is not None and encoded.token_places.ndim == 1:
        places = np.full(real.shape, -1, dtype=np.int64)
        places[real] = encoded.token_places[positions]
        words = torch.from_numpy(places)
    if encoded.masking is not None:
        shape = (real.shape[0], real.shape[1])
        noise = noise_for_batch(shape, generator) if generator else noise_for_rows(rows.tolist(), shape[1])
        mask = inputs["attention_mask"]
        inputs["input_ids"], labels = mask_tokens(inputs["input_ids"], mask, encoded.masking, noise)
    return Batch(inputs, labels, torch.from_numpy(sequences.astype(np.int64)), words)


class TrainingBatches(Sequence[Batch]):
    """The batches of one epoch, by number: ``batches[k]`` is made on the spot, so a resumed run starts at any
    step.

    The order is a function of (seed, epoch, batch size, world) alone. Rows are shuffled, runs of 50 batches
    are sorted by length, cut into batches, and the batches are shuffled. Above 4 Mi rows this happens within
    blocks of that many consecutive rows, in shuffled block order, so that the order itself stays small in
    memory.

    With several processes, the batches of one step are together the batch that one process would read with
    ``world`` times the batch size. Where a step has too few for all processes, its first one stands in, and
    `stands_in` says so.
    """

    def __init__(
        self,
        encoded: Encoded,
        *,
        batch_size: int,
        seed: int,
        epoch: int,
        pad_id: int,
        rank: int = 0,
        world: int = 1,
        block_rows: int = _BLOCK_ROWS,
    ) -> None:
        if len(encoded) == 0 or batch_size < 1 or not 0 <= rank < world:
            raise ConfigError(
                f"batches: expected rows, batch_size >= 1 and 0 <= rank < world, found {len(encoded)} rows, "
                f"batch_size {batch_size}, rank {rank}, world {world}"
            )
        self._encoded, self._batch_size, self._pad_id = encoded, batch_size, pad_id
        self._seed, self._epoch, self._rank, self._world = seed, epoch, rank, world
        step = batch_size * world
        self._block_rows = (
            max(block_rows // step, 1) * step
        )  # whole steps, so that only the last block has a partial one
        blocks = -(-len(encoded) // self._block_rows)
        self._blocks = self._random(0).permutation(blocks)
        steps = [-(-self._rows_of(block) // step) for block in self._blocks]
        self._ends = np.cumsum(steps)  # (blocks,) steps up to and including each block, in visiting order
        self._current: tuple[int, list[list[NDArray[np.int64]]]] | None = None

    def __len__(self) -> int:
        return int(self._ends[-1])

    @overload
    def __getitem__(self, index: int) -> Batch: ...
    @overload
    def __getitem__(self, index: slice) -> list[Batch]: ...
    def __getitem__(self, index: int | slice) -> Batch | list[Batch]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        generator = None
        if self._encoded.masking is not None:
            generator = torch.Generator().manual_seed(
                int(self._random(2, number, self._rank).integers(2**63))
            )
        return collate(self._encoded, self.rows(number), pad_id=self._pad_id, generator=generator)

    def rows(self, number: int) -> NDArray[np.int64]:
        """Row numbers of batch ``number``."""
        return self._step(number)[0 if self.stands_in(number) else self._rank]

    def stands_in(self, number: int) -> bool:
        """Whether batch ``number`` is another process's, because the step has none left for this one."""
        return self._rank >= len(self._step(number))

    def examples_of(self, number: int) -> int:
        """How many examples all processes together read in step ``number``."""
        return sum(map(len, self._step(number)))

    def _step(self, number: int) -> list[NDArray[np.int64]]:
        """The batches of all processes in step ``number``."""
        visit = int(np.searchsorted(self._ends, number, side="right"))
        if self._current is None or self._current[0] != visit:
            self._current = (visit, self._order(int(self._blocks[visit])))
        return self._current[1][number - (int(self._ends[visit - 1]) if visit else 0)]

    def _random(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, self._epoch, *purpose])

    def _rows_of(self, block: int) -> int:
        return min(self._block_rows, len(self._encoded) - block * self._block_rows)

    def _order(self, block: int) -> list[list[NDArray[np.int64]]]:
        """The batches of one block, step by step in the order they are visited."""
        random = self._random(1, block)
        first, count = block * self._block_rows, self._rows_of(block)
        group = self._encoded.group
        ends = self._encoded.offsets[first * group : (first + count) * group + 1]
        lengths = np.diff(ends).reshape(count, group).max(axis=1)
        shuffled = random.permutation(count)
        bucket = self._batch_size * self._world * _BUCKET_BATCHES
        for start in range(0, count, bucket):
            part = shuffled[start : start + bucket]
            shuffled[start : start + bucket] = part[np.argsort(lengths[part], kind="stable")]
        batches = [
            shuffled[start : start + self._batch_size] + first for start in range(0, count, self._batch_size)
        ]
        starts = range(0, len(batches), self._world)
        return [batches[starts[at] : starts[at] + self._world] for at in random.permutation(len(starts))]


def training_batches(
    encoded: Encoded, *, batch_size: int, seed: int, epoch: int, pad_id: int, rank: int = 0, world: int = 1
) -> TrainingBatches:
    """The batches of one epoch of training (see `TrainingBatches`). The last partial batch is kept."""
    return TrainingBatches(
        encoded, batch_size=batch_size, seed=seed, epoch=epoch, pad_id=pad_id, rank=rank, world=world
    )


def ordered_batches(encoded: Encoded, *, batch_size: int, pad_id: int) -> Iterator[Batch]:
    """Every row once, longest first (so that memory runs out at once or never); ``examples`` say which
    rows.
    """
    longest = encoded.lengths.reshape(len(encoded), encoded.group).max(axis=1)
    order: NDArray[Any] = np.argsort(-longest, kind="stable")
    for start in range(0, len(order), batch_size):
        yield collate(encoded, order[start : start + batch_size], pad_id=pad_id)

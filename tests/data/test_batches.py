"""Batches: padding, the order as a function of the seed, buckets, processes, resuming."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch

from compressbert.data.batches import Batch, TrainingBatches, collate, ordered_batches, training_batches
from compressbert.data.encode import Encoded
from compressbert.data.masking import Masking
from compressbert.errors import ConfigError


def made(lengths: list[int], *, types: bool = True, masking: Masking | None = None) -> Encoded:
    """Row i holds the ids 100 i, 100 i + 1, … (so that every token says where it came from)."""
    ids = np.concatenate([np.arange(length) + 100 * row for row, length in enumerate(lengths)]).astype(
        np.int32
    )
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    kinds = (ids % 2).astype(np.uint8) if types else None
    return Encoded(ids, kinds, offsets, np.arange(len(lengths)) % 3, 0, 64, "key", masking)


def uneven(rows: int, seed: int = 0) -> Encoded:
    return made(np.random.default_rng(seed).integers(1, 40, size=rows).tolist())


def examples(batches: TrainingBatches) -> list[list[int]]:
    return [batch.examples.tolist() for batch in batches]


def test_a_batch_by_hand() -> None:
    batch = collate(made([2, 4, 1]), np.array([2, 0]), pad_id=9)
    assert batch.inputs["input_ids"].tolist() == [[200, 9], [0, 1]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 0], [1, 1]]
    assert batch.inputs["token_type_ids"].tolist() == [[0, 0], [0, 1]]
    assert batch.labels is not None
    assert batch.labels.tolist() == [2, 0]
    assert batch.examples.tolist() == [2, 0]
    assert {tensor.dtype for tensor in batch.inputs.values()} == {torch.int64}
    assert "token_type_ids" not in collate(made([2], types=False), np.array([0]), pad_id=0).inputs


@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
@pytest.mark.parametrize("batch_size", [1, 8, 100])
def test_every_row_once_an_epoch_and_the_last_partial_batch_is_kept(rows: int, batch_size: int) -> None:
    batches = training_batches(uneven(rows), batch_size=batch_size, seed=3, epoch=1, pad_id=0)
    found = examples(batches)
    assert sorted(chain.from_iterable(found)) == list(range(rows))
    assert len(batches) == len(found) == -(-rows // batch_size)
    assert sum(len(batch) == batch_size for batch in found) >= rows // batch_size


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    data = uneven(500)

    def order(seed: int, epoch: int) -> list[list[int]]:
        return examples(training_batches(data, batch_size=8, seed=seed, epoch=epoch, pad_id=0))

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)
    assert order(1, 2) != order(2, 1)


def test_any_batch_can_be_made_alone() -> None:
    data = uneven(333)
    batches = training_batches(data, batch_size=8, seed=0, epoch=0, pad_id=0)
    whole = list(batches)
    fresh = training_batches(data, batch_size=8, seed=0, epoch=0, pad_id=0)
    assert torch.equal(fresh[17].inputs["input_ids"], whole[17].inputs["input_ids"])
    assert torch.equal(fresh[-1].examples, whole[-1].examples)
    assert [batch.examples.tolist() for batch in fresh[3:5]] == [
        batch.examples.tolist() for batch in whole[3:5]
    ]
    with pytest.raises(IndexError):
        fresh[len(fresh)]


def padded_share(batches: list[Batch]) -> float:
    positions = sum(batch.inputs["attention_mask"].numel() for batch in batches)
    return 1 - sum(int(batch.inputs["attention_mask"].sum()) for batch in batches) / positions


def test_rows_of_like_length_share_a_batch_and_lengths_come_mixed() -> None:
    data = uneven(5000)
    bucketed = list(training_batches(data, batch_size=16, seed=0, epoch=0, pad_id=0))
    shuffled = np.random.default_rng(0).permutation(5000)
    plain = [collate(data, shuffled[i : i + 16], pad_id=0) for i in range(0, 5000, 16)]
    assert padded_share(bucketed) < 0.05
    assert padded_share(plain) > 0.4
    widths = np.array([batch.inputs["input_ids"].shape[1] for batch in bucketed])
    assert abs(np.corrcoef(np.arange(len(widths)), widths)[0, 1]) < 0.2  # batches are shuffled, not sorted


@pytest.mark.parametrize("rows", [50, 128, 1001])
@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_an_epoch(rows: int, world: int) -> None:
    data = uneven(rows)
    parts = [
        training_batches(data, batch_size=4, seed=0, epoch=0, pad_id=0, rank=rank, world=world)
        for rank in range(world)
    ]
    assert len({len(part) for part in parts}) == 1
    seen = [row for part in parts for batch in examples(part) for row in batch]
    assert set(seen) == set(range(rows))
    own = [
        row
        for part in parts
        for number, batch in enumerate(examples(part))
        if not part.stands_in(number)
        for row in batch
    ]
    assert sorted(own) == list(range(rows))  # what stands in for a process without rows is told apart


@pytest.mark.parametrize("rows", [60, 61, 58, 3])
@pytest.mark.parametrize("world", [2, 3])
def test_processes_read_together_what_one_reads_with_larger_batches(rows: int, world: int) -> None:
    data = uneven(rows)

    def batches(size: int, rank: int, processes: int) -> TrainingBatches:
        return training_batches(data, batch_size=size, seed=0, epoch=1, pad_id=0, rank=rank, world=processes)

    one = batches(4 * world, 0, 1)
    parts = [batches(4, rank, world) for rank in range(world)]
    for number, whole in enumerate(examples(one)):
        shares = [examples(part)[number] for part in parts if not part.stands_in(number)]
        assert [row for share in shares for row in share] == whole
        assert {part.examples_of(number) for part in (one, *parts)} == {len(whole)}
    assert {len(part) for part in parts} == {len(one)}


def test_blocks_bound_the_order_and_keep_its_promises() -> None:
    data = uneven(1000)

    def order(epoch: int) -> list[list[int]]:
        return examples(TrainingBatches(data, batch_size=8, seed=0, epoch=epoch, pad_id=0, block_rows=96))

    found = order(0)
    assert sorted(chain.from_iterable(found)) == list(range(1000))
    assert len(found) == 125
    assert all(len({row // 96 for row in batch}) == 1 for batch in found)  # a batch stays within its block
    assert [batch[0] // 96 for batch in found] != sorted(batch[0] // 96 for batch in found)
    assert order(0) == found != order(1)


def test_ordered_batches_are_sorted_and_complete() -> None:
    data = uneven(101)
    batches = list(ordered_batches(data, batch_size=10, pad_id=0))
    found = torch.cat([batch.examples for batch in batches])
    assert sorted(found.tolist()) == list(range(101))
    lengths = data.lengths[found.numpy()]
    assert (np.diff(lengths) <= 0).all()


def masked(rows: int = 60) -> Encoded:
    lengths = np.random.default_rng(1).integers(3, 30, size=rows).tolist()
    return made(lengths, masking=Masking(mask_id=4, vocabulary=100 * rows, special_ids=(0, 4)))


def test_masked_lm_batches_carry_masked_ids_and_labels() -> None:
    data = masked()
    batches = training_batches(data, batch_size=8, seed=0, epoch=0, pad_id=0)
    first, again = batches[2], batches[2]
    assert first.labels is not None
    assert again.labels is not None
    assert torch.equal(first.inputs["input_ids"], again.inputs["input_ids"])
    assert torch.equal(first.labels, again.labels)
    plain = collate(made(data.lengths.tolist()), first.examples.numpy(), pad_id=0).inputs["input_ids"]
    scored = first.labels != -100
    assert torch.equal(first.labels[scored], plain[scored])
    assert torch.equal(first.inputs["input_ids"][~scored], plain[~scored])
    other = training_batches(data, batch_size=8, seed=0, epoch=1, pad_id=0)
    assert any(not torch.equal(batches[i].labels, other[i].labels) for i in range(4))  # type: ignore[arg-type]


def test_masks_of_evaluation_do_not_depend_on_the_batch_size() -> None:
    data = masked()

    def by_row(batch_size: int) -> dict[int, list[int]]:
        found = {}
        for batch in ordered_batches(data, batch_size=batch_size, pad_id=0):
            assert batch.labels is not None
            for row, ids in zip(batch.examples.tolist(), batch.inputs["input_ids"], strict=True):
                found[row] = ids[: data.lengths[row]].tolist()
        return found

    assert by_row(1) == by_row(7) == by_row(60)


def test_impossible_settings_are_refused() -> None:
    for settings in ({"batch_size": 0}, {"rank": 2, "world": 2}):
        with pytest.raises(ConfigError, match="batches: expected"):
            training_batches(uneven(5), **{"batch_size": 4, "seed": 0, "epoch": 0, "pad_id": 0, **settings})

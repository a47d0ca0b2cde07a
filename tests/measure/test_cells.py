"""How a round's time is spent on a shape."""

from __future__ import annotations

import random

from compressbert.config.schema import BenchmarkSettings
from compressbert.measure.cells import Cell, cells_to_time, pace, typical_lengths, typical_places

OWN = Cell(1, None, tuple(range(1, 129)))


def test_typical_places_lie_in_the_middle_of_equal_parts() -> None:
    assert typical_places(12, 3) == [2, 6, 10]
    assert typical_places(2, 4) == [0, 0, 1, 1]


def test_every_turn_has_other_texts_and_together_they_are_the_rounds() -> None:
    plan = pace(OWN, {"a": 10.0, "b": 5.0})  # 25 texts of 10 ms fill the 250 ms of a round
    assert OWN.at(plan.places) == typical_lengths(OWN.lengths, 25)
    turns = plan.deal(random.Random(0))
    assert len(turns) == 5
    assert {(len(turn.places), turn.inputs) for turn in turns} == {(5, 5)}
    assert sorted(place for turn in turns for place in turn.places) == sorted(plan.places)
    assert turns != plan.deal(random.Random(1))


def test_a_faster_candidate_goes_through_the_same_texts_more_often() -> None:
    plan = pace(OWN, {"slow": 10.0, "fast": 2.0})
    assert (plan.passes["slow"], plan.passes["fast"]) == (1, 5)


def test_slow_models_still_run_enough_texts_to_stand_for_the_data() -> None:
    assert len(pace(OWN, {"a": 5_000.0}).places) == 16
    assert len(pace(Cell(1, None, (3, 4)), {"a": 5_000.0}).places) == 2  # no more than there are


def test_a_fixed_shape_is_called_as_often_as_fits() -> None:
    plan = pace(Cell(8, 128, (128,)), {"a": 50.0, "b": 25.0})
    assert plan.cell.at(plan.places) == (128,) * 5
    assert plan.passes == {"a": 1, "b": 2}
    slow = pace(Cell(8, 128, (128,)), {"a": 5_000.0})
    assert (slow.places, slow.turns) == ((0, 0), 2)  # one call would have nothing to agree with


def test_a_padded_batch_is_one_input_again_and_again() -> None:
    plan = pace(Cell(4, None, (3, 5, 8, 9)), {"a": 20.0, "b": 20.0})
    turns = plan.deal(random.Random(0))
    assert {plan.cell.at(turn.places) for turn in turns} == {(3, 5, 8, 9)}
    assert [turn.inputs for turn in turns] == [3, 3, 2, 2, 2]  # 12 batches of 20 ms


def test_the_datas_own_lengths_are_cut_to_what_every_model_takes() -> None:
    *_, own = cells_to_time(BenchmarkSettings(cells=(), sentences=4), [5, 500, 600, 7], longest=64)
    assert own.lengths == (5, 7, 64, 64)


def test_a_candidate_with_its_own_tokenizer_takes_the_same_texts_at_its_own_lengths() -> None:
    settings = BenchmarkSettings(cells=(), sentences=4, data_batch=2)
    # by the baseline's lengths, the texts come in the order 1, 3, 0, 2
    padded, own = cells_to_time(settings, [7, 2, 9, 5], 64, {"small": [20, 3, 500, 6]})
    assert own.lengths == (2, 5, 7, 9)
    assert own.sample(4, "small") == (3, 6, 20, 64)
    assert own.sample(4, "another") == own.lengths
    assert (padded.lengths, padded.at((0, 1), "small")) == ((5, 9), (6, 64))
    for turn in pace(own, {"base": 10.0, "small": 10.0}).deal(random.Random(0)):
        (ours, theirs), known = (
            (own.at(turn.places), own.at(turn.places, "small")),
            {2: 3, 5: 6, 7: 20, 9: 64},
        )
        assert theirs == tuple(known[length] for length in ours)

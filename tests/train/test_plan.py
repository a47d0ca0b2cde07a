"""The plan reads every batch of every epoch once, whatever the grouping."""

from __future__ import annotations

import subprocess
import sys

import pytest

from compressbert.config.schema import TrainConfig
from compressbert.train.plan import Plan, derived_seed


def plan(per_epoch: int, **settings: object) -> Plan:
    return Plan.of(TrainConfig.model_validate(settings), per_epoch)


@pytest.mark.parametrize(
    ("settings", "total"),
    [
        ({"epochs": 3}, 30),
        ({"epochs": 0.7}, 7),
        ({"epochs": 0.01}, 1),
        ({"epochs": 1, "gradient_accumulation": 4}, 3),
        ({"epochs": 2, "gradient_accumulation": 4}, 5),
        ({"epochs": 3, "max_steps": 8}, 8),
        ({"epochs": 1, "max_steps": 80}, 10),
    ],
)
def test_number_of_steps_over_epochs_of_ten_batches(settings: dict[str, object], total: int) -> None:
    assert plan(10, **settings).total == total


@pytest.mark.parametrize("accumulation", [1, 2, 5])
def test_each_batch_of_each_epoch_is_read_once_and_in_order(accumulation: int) -> None:
    made = plan(7, epochs=3, gradient_accumulation=accumulation)
    stream = [batch for step in range(made.total) for batch in made.batches(step)]
    expected = [(epoch, index) for epoch in range(9) for index in range(7)]
    assert stream == expected[: len(stream)]
    assert 3 * 7 <= len(stream) < 3 * 7 + accumulation  # only the last step may reach beyond


def test_epochs_end_where_the_data_does() -> None:
    made = plan(7, epochs=2.5, gradient_accumulation=2)
    assert made.total == 9
    assert [steps for steps in range(1, 10) if made.ends_epoch(steps)] == [4, 7, 9]
    assert made.epochs(7) == 2.0


def test_seeds_differ_by_every_fact_and_agree_between_processes() -> None:
    facts = [(0, "a", 1), (1, "a", 1), (0, "b", 1), (0, "a", 2), (0, "a1", "")]
    seeds = {derived_seed(*each) for each in facts}
    assert len(seeds) == len(facts)
    code = "from compressbert.train.plan import derived_seed; print(derived_seed(0, 'a', 1))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(told) == derived_seed(0, "a", 1)

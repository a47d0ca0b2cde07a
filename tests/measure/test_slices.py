"""Slices: who belongs to them, and which are said to lose more than the rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from compressbert.config.schema import DataConfig
from compressbert.errors import InputError
from compressbert.measure.quality import Quality, quality_of
from compressbert.measure.slices import (
    Group,
    column_groups,
    holm,
    judge_slices,
    label_groups,
    length_groups,
    slice_p_values,
)
from compressbert.results.record import Slice
from compressbert.tasks.base import task_for
from tests.measure.test_quality import BINARY, MULTI, REGRESSION, logits_for


def named(groups: Sequence[Group]) -> dict[str, int]:
    return {group.name: int(group.rows.sum()) for group in groups}


def test_groups_by_label_length_and_column() -> None:
    labels = np.array([0, 1, 1, 0, 1])
    assert named(list(label_groups(labels, BINARY))) == {"label=negative": 2, "label=positive": 3}
    flags = np.array([[1, 0, 1], [0, 0, 1]])
    assert named(list(label_groups(flags, MULTI))) == {"label=a": 1, "label=b": 0, "label=c": 2}
    assert named(list(length_groups([3, 8, 9, 17, 40]))) == {
        "length 1-8": 2, "length 9-16": 1, "length 17-32": 1, "length 33-64": 1
    }  # fmt: skip
    words = ["web"] * 40 + ["print"] * 30 + ["rare"] * 29 + [None] * 31
    assert named(list(column_groups("source", words))) == {
        "source=(none)": 31, "source=print": 30, "source=web": 40
    }  # fmt: skip
    assert named(list(column_groups("stars", [1, 2] * 50))) == {"stars=1": 50, "stars=2": 50}
    assert named(list(column_groups("price", list(range(100))))) == {
        "price 0 to 24.75": 25, "price >24.75 to 49.5": 25, "price >49.5 to 74.25": 25, "price >74.25 to 99": 25
    }  # fmt: skip
    assert sum(named(list(label_groups(np.linspace(0, 5, 90), REGRESSION))).values()) == 90
    with pytest.raises(InputError, match="none of its 60 values has 30 rows"):
        list(column_groups("id", [f"row {i}" for i in range(60)]))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_p_of_a_slice_that_holds_every_loss_is_the_hypergeometric_chance() -> None:
    losses = np.zeros(200)
    losses[:4] = 1.0
    inside = np.arange(200) < 50
    (p,) = slice_p_values(losses, np.ones(200), [inside])
    chance = np.prod([(50 - i) / (200 - i) for i in range(4)])  # all four fall into the fifty
    assert p == pytest.approx(chance, rel=0.35)
    (back,) = slice_p_values(losses, np.ones(200), [~inside])
    assert back > 0.9
    assert slice_p_values(np.zeros(200), np.ones(200), [inside]) == [1.0]


def test_dealing_rows_and_dealing_kinds_agree() -> None:
    generator = np.random.default_rng(0)
    losses = (generator.random(300) < 0.08).astype(float) - (generator.random(300) < 0.04)
    mask = generator.random(300) < 0.3
    (kinds,) = slice_p_values(losses, np.ones(300), [mask])
    (rows,) = slice_p_values(losses + generator.normal(0, 1e-6, 300), np.ones(300), [mask])
    assert rows == pytest.approx(kinds, abs=0.06)  # ties count for the slice where losses are whole


def simulated(
    generator: np.random.Generator, rows: int, lost_in_slice: float, *, churn: float = 0.01
) -> tuple[Slice, ...]:
    """Slices of a candidate that loses ``lost_in_slice`` more on a sixth of the rows."""
    labels = generator.integers(2, size=rows)
    source = generator.choice(["a", "b", "c", "d", "e", "f"], size=rows)
    right = generator.random(rows) < 0.9
    lose = churn + np.where(source == "c", lost_in_slice, 0.0)
    after = np.where(right, generator.random(rows) >= lose / 0.9, generator.random(rows) < churn / 0.1)
    quality = [Quality(logits_for(np.where(ok, labels, 1 - labels)), labels, {}) for ok in (right, after)]
    groups = [
        *label_groups(labels, BINARY),
        *length_groups(generator.geometric(0.05, size=rows)),
        *column_groups("source", source.tolist()),
    ]
    return judge_slices(groups, baseline=quality[0], candidate=quality[1], labels=labels, task=BINARY)


def test_a_planted_regression_is_found_and_named() -> None:
    """2 points lost on one slice in six, 0.3 overall; the rest changes as much but loses nothing."""
    generator = np.random.default_rng(5)
    named_slices = [[s.name for s in simulated(generator, 12_000, 0.02) if s.worse] for _ in range(20)]
    assert sum("source=c" in names for names in named_slices) >= 17  # 95 % power by benchmarks/slices.py
    assert sum(len(names) > 1 for names in named_slices) <= 3


def test_where_nothing_is_planted_hardly_a_slice_is_named() -> None:
    generator = np.random.default_rng(6)
    alarms = sum(any(s.worse for s in simulated(generator, 2_000, 0.0, churn=0.03)) for _ in range(40))
    assert alarms <= 6  # 5 % are 2; more than 6 would have a chance below 1 %


def test_a_slice_tells_what_it_holds() -> None:
    labels = np.arange(200) % 2
    after = labels.copy()
    after[1:21:2] = 0  # ten of the hundred positive rows are lost
    before, candidate = (quality_of(logits_for(x), labels, BINARY) for x in (labels, after))
    negative, positive = judge_slices(
        list(label_groups(labels, BINARY)), baseline=before, candidate=candidate, labels=labels, task=BINARY
    )
    assert (positive.name, positive.by, positive.examples, positive.metric) == (
        "label=positive", "label", 100, "accuracy"
    )  # fmt: skip
    assert (positive.baseline, positive.candidate) == (1.0, 0.9)
    assert positive.drop.value == pytest.approx(0.1)
    assert positive.drop.low > 0.03
    assert positive.worse
    assert positive.p is not None
    assert positive.p < 0.01
    assert (negative.drop.value, negative.worse) == (0.0, False)


def test_small_slices_are_left_out_and_a_slice_of_all_rows_is_not_tested() -> None:
    labels = np.zeros(60, np.int64)
    labels[:10] = 1
    quality = quality_of(logits_for(labels), labels, BINARY)
    found = judge_slices(
        [*label_groups(labels, BINARY), Group("all", "x", np.ones(60, bool))],
        baseline=quality, candidate=quality, labels=labels, task=BINARY,
    )  # fmt: skip
    assert [(s.name, s.p, s.worse) for s in found] == [("label=negative", None, False), ("all", None, False)]


def test_slices_of_numbers_compare_squared_errors() -> None:
    task = task_for(DataConfig(task="regression"), ())
    generator = np.random.default_rng(1)
    labels = generator.uniform(0, 5, 400)
    noise = generator.normal(0, 0.1, 400)
    worse = labels + noise + np.where(labels > 3.75, generator.normal(0, 1.0, 400), 0.0)
    before, after = (quality_of(x[:, None].astype(np.float32), labels, task) for x in (labels + noise, worse))
    found = judge_slices(
        list(label_groups(labels, task)), baseline=before, candidate=after, labels=labels, task=task
    )
    assert {s.metric for s in found} == {"mean_squared_error"}
    assert [s.worse for s in found] == [False, False, False, True]
    assert found[-1].drop.value == pytest.approx(found[-1].candidate - found[-1].baseline)

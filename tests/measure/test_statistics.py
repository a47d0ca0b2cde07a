from __future__ import annotations

import math
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from compressbert.measure import statistics as s

Floats = NDArray[np.float64]


class Share:
    """sum of column 0 / sum of column 1."""

    noisy = False

    def value(self, sums: Floats, /) -> Floats:
        return sums[..., 0] / sums[..., 1]


def hits(right: NDArray[np.bool_]) -> Floats:
    return np.stack([right, np.ones(len(right))], axis=1).astype(np.float64)


def spread(rows: int, seed: int = 0) -> Floats:
    """Statistics without two equal rows, so that rows and not patterns are drawn."""
    return np.stack([np.random.default_rng(seed).normal(3, 1, rows), np.ones(rows)], axis=1)


@pytest.mark.parametrize("table", [hits(np.arange(400) % 4 > 0), spread(400)], ids=["patterns", "rows"])
def test_resampled_sums_have_the_mean_and_variance_of_drawing_rows(table: Floats) -> None:
    (sums,) = s.resampled_sums(table)
    assert sums.shape == (10_000, 2)
    np.testing.assert_allclose(sums[:, 1], 400)  # every resample weighs as much as the data
    expected, deviation = table[:, 0].sum(), math.sqrt(400 * table[:, 0].var())
    assert sums[:, 0].mean() == pytest.approx(expected, abs=4 * deviation / 100)
    assert sums[:, 0].std() == pytest.approx(deviation, rel=0.05)


def test_chunks_do_not_change_the_number_of_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s, "_CHUNK_DRAWS", 7 * 300)
    (sums,) = s.resampled_sums(spread(300), resamples=50)
    assert sums.shape == (50, 2)
    np.testing.assert_allclose(sums[:, 1], 300)


def test_same_seed_same_samples() -> None:
    table = spread(300)
    first, again, other = (s.resampled_sums(table, resamples=20, seed=seed)[0] for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("table", [hits(np.arange(400) % 4 > 0), spread(400)], ids=["patterns", "rows"])
def test_tables_share_their_weights(table: Floats) -> None:
    one, two = s.resampled_sums(table, 2 * table, resamples=50)
    np.testing.assert_allclose(two, 2 * one)


@pytest.mark.parametrize("rows", [40, 400], ids=["patterns", "rows"])
def test_added_rows_weigh_what_they_should(rows: int) -> None:
    """Half a row with a statistic of 10, beside rows of 0: it holds 0.5 of rows + 0.5 on average."""
    zeros = np.zeros((rows, 1)) if rows < 100 else np.linspace(-1, 1, rows)[:, None]
    prior = s.Prior((np.full((1, 1), 10.0),), np.array([0.5]))
    (sums,) = s.resampled_sums(zeros, prior=prior, resamples=40_000)
    assert sums.mean() == pytest.approx(10 * rows * 0.5 / (rows + 0.5), rel=0.05)


def test_interval_is_the_percentiles() -> None:
    found = s.interval(50.0, np.arange(101))
    assert (found.value, found.low, found.high) == pytest.approx((50.0, 2.5, 97.5))


def test_interval_of_accuracy_agrees_with_the_normal_approximation() -> None:
    found = s.metric_interval(Share(), hits(np.arange(2000) % 10 > 0))
    half = 1.96 * math.sqrt(0.9 * 0.1 / 2000)
    assert found.value == pytest.approx(0.9)
    assert found.low == pytest.approx(0.9 - half, abs=0.1 * half)
    assert found.high == pytest.approx(0.9 + half, abs=0.1 * half)


def test_interval_covers_the_truth() -> None:
    generator = np.random.default_rng(7)
    covered = 0
    for _ in range(300):
        found = s.metric_interval(Share(), hits(generator.random(200) < 0.85), resamples=1000)
        covered += found.low <= 0.85 <= found.high
    assert 0.91 <= covered / 300 <= 0.98


def test_pairing_narrows_the_interval() -> None:
    right = np.arange(1000) % 5 > 0
    after = right.copy()
    after[:10] = ~after[:10]
    paired, _ = s.paired_bootstrap(Share(), hits(right), hits(after))
    alone = s.metric_interval(Share(), hits(right))
    assert paired.high - paired.low < 0.3 * (alone.high - alone.low)


def test_identical_candidates_differ_by_nothing() -> None:
    for table in (hits(np.arange(100) % 3 > 0), spread(300)):
        difference, ratio = s.paired_bootstrap(Share(), table, table)
        assert (difference.value, difference.low, difference.high) == (0, 0, 0)
        assert ratio is not None
        assert (ratio.value, ratio.low, ratio.high) == (1, 1, 1)


def test_difference_and_ratio_by_hand() -> None:
    before, after = hits(np.arange(100) < 80), hits(np.arange(100) < 72)
    difference, ratio = s.paired_bootstrap(Share(), before, after)
    assert difference.value == pytest.approx(-0.08)
    assert ratio is not None
    assert ratio.value == pytest.approx(0.9)
    assert ratio.low < 0.9 < ratio.high < 1


def test_no_ratio_to_a_baseline_that_may_be_zero() -> None:
    nothing, half = hits(np.zeros(50, bool)), hits(np.arange(50) % 2 > 0)
    difference, ratio = s.paired_bootstrap(Share(), nothing, half)
    assert ratio is None
    assert difference.value == pytest.approx(0.5)


def test_mcnemar_by_hand() -> None:
    before = np.array([True] * 10 + [False] * 2 + [True] * 30)
    after = np.array([False] * 10 + [True] * 2 + [True] * 30)
    # 12 discordant pairs, 2 of one kind: 2 · (1 + 12 + 66) / 2^12
    assert s.mcnemar_exact(before, after) == pytest.approx(2 * 79 / 4096)
    assert s.mcnemar_exact(after, before) == pytest.approx(2 * 79 / 4096)
    assert s.mcnemar_exact(before, before) == 1.0
    assert s.mcnemar_exact([True, False], [False, True]) == 1.0


def test_mcnemar_of_many_pairs_agrees_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    before = np.arange(5000) < 2600
    expected = stats.binomtest(2400, 5000, 0.5).pvalue
    assert s.mcnemar_exact(before, ~before) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("table", [hits(np.arange(872) % 9 > 0), spread(872)], ids=["patterns", "rows"])
def test_ten_thousand_resamples_of_sst2_take_under_half_a_second(table: Floats) -> None:
    start = time.process_time()
    s.paired_bootstrap(Share(), table, table)
    assert time.process_time() - start < 0.5

"""How often 95 % intervals cover the truth, on simulated predictions whose true difference is known.

    python benchmarks/coverage.py [pairs|alone|numbers|seeds|time] [--draws 1000]

`pairs`: accuracy, F1 and Matthews of two models that agree as a model and its compressed form do, at 100, 872 and
10,000 rows; of accuracy also the alternatives to the method in use. `alone`: one model's metrics. `numbers`: metrics
of a regression. `seeds`: the mean over several trainings. `time`: seconds for 10,000 resamples. Without a name: all.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressbert.config.schema import DataConfig
from compressbert.measure.quality import Quality
from compressbert.measure.seeds import seed_summary
from compressbert.measure.statistics import RESAMPLES, Prior, metric_interval, paired_bootstrap
from compressbert.measure.unseen import prior_alone, prior_paired
from compressbert.tasks import metrics as m
from compressbert.tasks.base import task_for

Floats = NDArray[np.float64]
Bounds = tuple[float, float]
BINARY = task_for(DataConfig(), ("negative", "positive"))
NUMBER = task_for(DataConfig(task="regression"), ())
METRICS = (m.ACCURACY, m.F1, m.MATTHEWS)
# rows, P(lost), P(won), P(both wrong), share of positive labels
PAIRS = [
    *((rows, 0.03, 0.02, 0.08, 0.5) for rows in (100, 872, 10_000)),
    *((100, *rest) for rest in ((0.06, 0.01, 0.08, 0.5), (0.08, 0.04, 0.08, 0.5), (0.03, 0.02, 0.08, 0.2))),
    (100, 0.01, 0.01, 0.09, 0.5),
]


def covers(bounds: Bounds, truth: float) -> str:
    """On which side of an interval the truth is: in, or the interval lies too low or too high."""
    low, high = bounds
    return "in" if low - 1e-12 <= truth <= high + 1e-12 else "low" if high < truth else "high"


def line(title: str, counts: Counter[str], width: float) -> None:
    """Print a row of the table."""
    draws = sum(counts.values())
    rates = {side: 100 * counts[side] / draws for side in ("in", "low", "high")}
    print(
        f"{title:78} {rates['in']:5.1f} %   too low {rates['low']:4.1f}, too high {rates['high']:4.1f}"
        f"   mean width {width / draws:.4f}",
        flush=True,
    )


# two models


def decisions(cells: Floats, rows: int, generator: np.random.Generator) -> tuple[NDArray[Any], ...]:
    """Labels and both models' decisions of random rows; cells are P(label, baseline, candidate), (2, 2, 2)."""
    drawn = generator.choice(8, p=cells.ravel(), size=rows)
    return drawn >> 2, drawn >> 1 & 1, drawn & 1


def cells_of(lost: float, won: float, both_wrong: float, positive: float) -> Floats:
    """P(label, baseline's decision, candidate's decision)."""
    cells = np.zeros((2, 2, 2))
    for label, share in enumerate((1 - positive, positive)):
        wrong = 1 - label
        cells[label, label, wrong], cells[label, wrong, label] = share * lost, share * won
        cells[label, wrong, wrong] = share * both_wrong
        cells[label, label, label] = share * (1 - lost - won - both_wrong)
    return cells


def logits_of(decided: NDArray[Any]) -> Floats:
    """Logits that decide so."""
    return np.eye(2)[decided]


def true_value(metric: m.Metric, cells: Floats, model: int) -> float:
    """The metric over the population; model 1 is the baseline, 2 the candidate."""
    labels, base, cand = (index.ravel() for index in np.indices((2, 2, 2)))
    table = metric.statistics(logits_of((base, cand)[model - 1]), labels)
    return float(metric.value(cells.ravel() @ table))


Interval = Callable[[m.Metric, Floats, Floats, Prior | None], tuple[Bounds, Bounds | None]]


def in_use(
    metric: m.Metric, before: Floats, after: Floats, prior: Prior | None
) -> tuple[Bounds, Bounds | None]:
    """The intervals that reports show."""
    difference, ratio = paired_bootstrap(metric, before, after, prior=prior)
    return (difference.low, difference.high), (ratio.low, ratio.high) if ratio else None


def without_added_rows(
    metric: m.Metric, before: Floats, after: Floats, _: Prior | None
) -> tuple[Bounds, Bounds | None]:
    """The Bayesian bootstrap of the rows alone."""
    return in_use(metric, before, after, None)


def whole_rows(metric: m.Metric, before: Floats, after: Floats) -> Iterator[tuple[float, Floats, Floats]]:
    """Efron's bootstrap: the difference and the ratio, each with its resamples and its jackknife values."""
    patterns, inverse, counts = np.unique(
        np.hstack([before, after]), axis=0, return_inverse=True, return_counts=True
    )
    rows, width = len(before), before.shape[1]
    drawn = np.random.default_rng(0).multinomial(rows, counts / rows, size=RESAMPLES) @ patterns
    total = patterns.T @ counts
    left = (total - patterns)[inverse.reshape(-1)]
    values = [(metric.value(s[..., :width]), metric.value(s[..., width:])) for s in (total, drawn, left)]
    yield tuple(b - a for a, b in values)  # type: ignore[misc]
    if all(np.all(a > 0) for a, _ in values):
        yield tuple(b / a for a, b in values)  # type: ignore[misc]


def percentile(
    metric: m.Metric, before: Floats, after: Floats, _: Prior | None
) -> tuple[Bounds, Bounds | None]:
    """Percentiles of Efron's bootstrap."""
    found = [
        tuple(np.percentile(samples, [2.5, 97.5])) for _, samples, _ in whole_rows(metric, before, after)
    ]
    return found[0], found[1] if len(found) > 1 else None


def bca(metric: m.Metric, before: Floats, after: Floats, _: Prior | None) -> tuple[Bounds, Bounds | None]:
    """Efron's bootstrap, bias-corrected and accelerated; ties count half."""
    normal, found = NormalDist(), []
    for value, samples, left in whole_rows(metric, before, after):
        below = (samples < value - 1e-12).mean() + (np.abs(samples - value) <= 1e-12).mean() / 2
        shift = normal.inv_cdf(min(max(float(below), 1e-4), 1 - 1e-4))
        spread = left.mean() - left
        cubed = (spread**2).sum() ** 1.5
        bend = (spread**3).sum() / (6 * cubed) if cubed > 0 else 0.0
        levels = [
            100 * normal.cdf(shift + (shift + z) / (1 - bend * (shift + z)))
            for z in (normal.inv_cdf(0.025), normal.inv_cdf(0.975))
        ]
        found.append(tuple(np.percentile(samples, levels)))
    return found[0], found[1] if len(found) > 1 else None


METHODS: dict[str, Interval] = {
    "in use": in_use,
    "Bayesian, no added rows": without_added_rows,
    "percentile": percentile,
    "BCa": bca,
}


def pairs(draws: int) -> None:
    """Coverage of the difference and of the ratio."""
    for rows, *chances in PAIRS:
        cells = cells_of(*chances)
        generator = np.random.default_rng(20_200_227)
        counts: dict[tuple[str, str, str], Counter[str]] = {}
        widths: Counter[tuple[str, str, str]] = Counter()
        for _ in range(draws):
            labels, base, cand = decisions(cells, rows, generator)
            for metric in METRICS:
                tables = [metric.statistics(logits_of(decided), labels) for decided in (base, cand)]
                truth = [true_value(metric, cells, model) for model in (1, 2)]
                prior = prior_paired(metric, labels, BINARY)
                for method, interval in (METHODS if metric is m.ACCURACY else {"in use": in_use}).items():
                    bounds = interval(metric, *tables, prior)  # type: ignore[call-arg]
                    for what, found, true in zip(
                        ("difference", "ratio"),
                        bounds,
                        (truth[1] - truth[0], truth[1] / truth[0]),
                        strict=True,
                    ):
                        key = (metric.name, what, method)
                        side = "absent" if found is None else covers(found, true)
                        counts.setdefault(key, Counter())[side] += 1
                        widths[key] += 0 if found is None else found[1] - found[0]  # type: ignore[assignment]
        lost, won, _, positive = chances
        print(f"\n{rows} rows, {100 * lost:g} % lost, {100 * won:g} % won, {100 * positive:g} % positive")
        for key, found in counts.items():
            line("  " + ", ".join(key), found, widths[key])


# one model


def scored(rows: int, generator: np.random.Generator) -> tuple[Floats, NDArray[Any]]:
    """Logits and labels of a model that is right in about 9 rows of 10 and too sure of itself."""
    labels = generator.integers(2, size=rows)
    true = generator.normal(2.2, 1.8, size=rows) * np.where(labels == 1, 1, -1)
    return np.stack([np.zeros(rows), 1.6 * true], axis=1), labels


def usual_calibration_error(sums: Floats) -> Floats:
    """The calibration error with its noise, as it is usually computed."""
    gaps, _, counts = np.split(sums, 3, axis=-1)
    return np.asarray(np.abs(gaps).sum(axis=-1) / counts.sum(axis=-1))


USUAL = m.Metric(
    "calibration error as usual", "lower", m.CALIBRATION_ERROR.statistics, usual_calibration_error
)


def alone(draws: int) -> None:
    """Coverage of one model's metrics; the truth is that of two million rows."""
    population = scored(2_000_000, np.random.default_rng(1))
    wanted = ("accuracy", "matthews", "f1", "recall[negative]", "expected_calibration_error")
    chosen = [*(metric for metric in BINARY.metrics if metric.name in wanted), USUAL]
    truths = {metric.name: metric(*population) for metric in chosen}
    for rows in (100, 872, 10_000):
        generator = np.random.default_rng(2)
        counts: dict[str, Counter[str]] = {name: Counter() for name in truths}
        widths: Counter[str] = Counter()
        means: Counter[str] = Counter()
        times = draws if rows < 10_000 else min(draws, 100)
        for _ in range(times):
            logits, labels = scored(rows, generator)
            for metric in chosen:
                found = metric_interval(
                    metric, metric.statistics(logits, labels), prior=prior_alone(metric, labels, BINARY),
                    resamples=2000,
                )  # fmt: skip
                counts[metric.name][covers((found.low, found.high), truths[metric.name])] += 1
                widths[metric.name] += found.high - found.low  # type: ignore[assignment]
                means[metric.name] += found.value / times  # type: ignore[assignment]
        print(f"\none model, {rows} rows")
        for name, found_counts in counts.items():
            line(f"  {name} (truth {truths[name]:.4f}, mean {means[name]:.4f})", found_counts, widths[name])


# numbers


def numbers(draws: int) -> None:
    """Coverage of the difference in Pearson and Spearman of two models of one number."""

    def rated(rows: int, generator: np.random.Generator) -> tuple[Floats, Floats, Floats]:
        labels, shared = generator.uniform(0, 5, rows), generator.normal(0, 0.8, rows)
        own = [labels + shared + generator.normal(0, by, rows) for by in (0.2, 0.4)]
        return labels, own[0][:, None], own[1][:, None]

    labels, base, cand = rated(1_000_000, np.random.default_rng(3))
    truths = {x: x(cand, labels) - x(base, labels) for x in (m.PEARSON, m.SPEARMAN, m.MEAN_SQUARED_ERROR)}
    for rows in (100, 872):
        generator = np.random.default_rng(4)
        counts: dict[str, Counter[str]] = {metric.name: Counter() for metric in truths}
        widths: Counter[str] = Counter()
        for _ in range(draws):
            labels, base, cand = rated(rows, generator)
            for metric, truth in truths.items():
                found, _ = paired_bootstrap(
                    metric, metric.statistics(base, labels), metric.statistics(cand, labels), resamples=2000
                )
                counts[metric.name][covers((found.low, found.high), truth)] += 1
                widths[metric.name] += found.high - found.low  # type: ignore[assignment]
        print(f"\nnumbers, {rows} rows")
        for metric in truths:
            line(f"  {metric.name}, difference", counts[metric.name], widths[metric.name])


# several seeds


def seeds(draws: int) -> None:
    """Coverage of the mean over trainings: each seed has its own true accuracy, rows are shared."""
    for rows, trainings, spread in ((872, 3, 0.005), (872, 5, 0.005), (872, 3, 0.0), (10_000, 3, 0.01)):
        generator = np.random.default_rng(5)
        counts: Counter[str] = Counter()
        width = 0.0
        for _ in range(draws):
            labels = generator.integers(2, size=rows)
            ease = generator.normal(size=rows)  # a row that is hard for one training is hard for the others
            qualities = {}
            for seed in range(trainings):
                rate = 0.9 + generator.normal(0, spread)
                mixed = np.sqrt(0.8) * ease + np.sqrt(0.2) * generator.normal(size=rows)
                right = mixed < NormalDist().inv_cdf(min(rate, 0.999))
                decided = logits_of(np.where(right, labels, 1 - labels))
                qualities[seed] = Quality(decided, labels, {})  # type: ignore[arg-type]
            found = seed_summary(qualities, BINARY).interval
            counts[covers((found.low, found.high), 0.9)] += 1
            width += found.high - found.low
        line(f"  {trainings} seeds, {rows} rows, sd between seeds {100 * spread:g} points", counts, width)


def timing(_: int) -> None:
    """Processor seconds for difference and ratio with 10,000 resamples."""
    generator = np.random.default_rng(6)
    for rows in (872, 10_000):
        labels, base, cand = decisions(cells_of(0.03, 0.02, 0.08, 0.5), rows, generator)
        for metric in (m.ACCURACY, m.MATTHEWS):
            tables = [metric.statistics(logits_of(decided), labels) for decided in (base, cand)]
            _timed(f"{metric.name}, {rows} rows", metric, tables, prior_paired(metric, labels, BINARY))
        numbers_ = [generator.normal(size=(rows, 1)) for _ in range(2)]
        tables = [m.PEARSON.statistics(x, labels.astype(float)) for x in numbers_]
        _timed(f"pearson, {rows} rows", m.PEARSON, tables, None)


def _timed(title: str, metric: m.Metric, tables: list[Floats], prior: Prior | None) -> None:
    started = time.process_time()
    paired_bootstrap(metric, *tables, prior=prior)  # type: ignore[misc]
    print(f"  {title:30} {time.process_time() - started:.3f} s")


PARTS: dict[str, Callable[[int], None]] = {
    "pairs": pairs,
    "alone": alone,
    "numbers": numbers,
    "seeds": seeds,
    "time": timing,
}


def main() -> None:
    """Run the parts that were named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--draws", type=int, default=1000)
    arguments = parser.parse_args()
    for name in arguments.parts or PARTS:
        print(f"\n== {name}")
        PARTS[name](arguments.draws)


if __name__ == "__main__":
    main()

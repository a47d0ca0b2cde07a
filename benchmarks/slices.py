"""Slices: how often a planted regression is found, and how often a slice is named where nothing is planted.

    python benchmarks/slices.py [--draws 200]

A candidate loses 2 points on one slice in six, 0.3 overall, and changes as many rows either way everywhere. Fourteen
or so slices are judged together: two labels, six sources, and lengths. A false alarm is any slice named that shares
no cause with the planted one.
"""

from __future__ import annotations

import argparse

import numpy as np

from compressbert.config.schema import DataConfig
from compressbert.measure.quality import Quality
from compressbert.measure.slices import column_groups, judge_slices, label_groups, length_groups
from compressbert.tasks.base import task_for

BINARY = task_for(DataConfig(), ("negative", "positive"))
SOURCES = ["a", "b", "c", "d", "e", "f"]


def named(generator: np.random.Generator, rows: int, planted: float, churn: float) -> set[str]:
    """Names of the slices said to lose more than the rest; source c loses ``planted`` more."""
    labels = generator.integers(2, size=rows)
    source = generator.choice(SOURCES, size=rows)
    before = generator.random(rows) < 0.9
    lose = (churn + np.where(source == "c", planted, 0.0)) / 0.9
    after = np.where(before, generator.random(rows) >= lose, generator.random(rows) < churn / 0.1)
    qualities = [
        Quality(np.eye(2, dtype=np.float32)[np.where(right, labels, 1 - labels)], labels, {})
        for right in (before, after)
    ]
    groups = [
        *label_groups(labels, BINARY),
        *length_groups(generator.geometric(0.05, size=rows)),
        *column_groups("source", source.tolist()),
    ]
    found = judge_slices(groups, baseline=qualities[0], candidate=qualities[1], labels=labels, task=BINARY)
    return {part.name for part in found if part.worse}


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--draws", type=int, default=200)
    draws = parser.parse_args().draws
    for rows, planted, churn in (
        (872, 0.02, 0.01), (3_000, 0.02, 0.01), (10_000, 0.02, 0.01), (20_000, 0.02, 0.01),
        (872, 0.10, 0.01), (872, 0.0, 0.02), (3_000, 0.0, 0.02), (10_000, 0.0, 0.02),
    ):  # fmt: skip
        generator = np.random.default_rng(20_200_227)
        found = [named(generator, rows, planted, churn) for _ in range(draws)]
        hits = sum("source=c" in names for names in found) / draws
        others = sum(bool(names - {"source=c"} if planted else names) for names in found) / draws
        print(
            f"{rows:6} rows, {100 * planted:4.1f} points planted, {100 * churn:g} % change either way: "
            f"{f'found in {100 * hits:.1f} %, ' if planted else ''}another slice named in {100 * others:.1f} %",
            flush=True,
        )


if __name__ == "__main__":
    main()

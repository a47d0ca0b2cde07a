"""How long the report of a long sweep takes to render, and how large its files are.

usage: python benchmarks/report.py [ROWS [ROUNDS]]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from compressbert.report import html, markdown
from compressbert.results.report import Report
from tests.report.examples import sweep


def main(rows: int, rounds: int) -> None:
    """Print seconds and megabytes of each form of a report in which every row has everything."""
    report = sweep(rows)
    forms: dict[str, Callable[[Report], str]] = {
        "html": html.render,
        "markdown": markdown.render,
        "json": lambda found: found.model_dump_json(indent=2),
    }
    for name, render in forms.items():
        seconds = []
        for _ in range(rounds):
            started = time.perf_counter()
            text = render(report)
            seconds.append(time.perf_counter() - started)
        first, median = seconds[0], statistics.median(seconds)
        size = len(text.encode()) / 1e6
        print(f"{name:9} {rows} rows: {median:.3f} s (first {first:.3f} s), {size:.2f} MB")


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:]]
    main(*(arguments + [200, 5][len(arguments) :]))

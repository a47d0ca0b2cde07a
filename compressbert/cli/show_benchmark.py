"""What `benchmark` found, as tables for a person: latencies by shape, what else each model costs, circumstances."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from compressbert.cli.show import table
from compressbert.report import figures
from compressbert.report.runtimes import Winner, sentence
from compressbert.results.measured import cell_name
from compressbert.results.record import Conditions, Interval

_UNSTEADY = "~"


def benchmark_tables(document: dict[str, Any]) -> list[RenderableType]:
    """The tables of `benchmark`'s JSON document."""
    parts: list[RenderableType] = [_latencies(document["rows"]), Text(), _costs(document["rows"])]
    between = sentence([Winner(**winner) for winner in document["fastest"]])
    if between:
        parts += [Text(), Text(between)]
    if any(not cell["steady"] for row in document["rows"] for cell in row["latency"]):
        parts += [
            Text(),
            Text(f"{_UNSTEADY} calls had not settled when warming up was given up", style="yellow"),
        ]
    if document["conditions"] is not None:
        parts += [Text(), _conditions(Conditions.model_validate(document["conditions"]), document["machine"])]
    return parts


def _latencies(rows: list[dict[str, Any]]) -> Table:
    """One line for each model and shape; the data's own lengths come first, for they are what a speed-up means."""
    made = table("", "shape", "p50 ms", "p95", "p99", "texts/s", "speed-up", right=(2, 3, 4, 5, 6))
    for row in rows:
        cells = sorted(row["latency"], key=lambda cell: cell["length"] is not None)
        for number, cell in enumerate(cells):
            name = cell_name(cell["batch"], cell["length"])
            ratio = row["speedup_by_cell"].get(name)
            made.add_row(
                Text(row["name"] if number == 0 else "", style="bold"),
                figures.cell_label(name),
                ("" if cell["steady"] else _UNSTEADY) + figures.milliseconds(cell["p50_ms"]),
                figures.milliseconds(cell["p95_ms"]),
                figures.milliseconds(cell["p99_ms"]),
                _count(cell["per_second"]),
                figures.times_interval(Interval.model_validate(ratio))
                if ratio
                else Text("baseline", style="dim"),
            )
    return made


def _costs(rows: list[dict[str, Any]]) -> Table:
    """What a model costs beside its latency: starting, tokenizing, memory."""
    headings = ("runtime", "MB", "load ms", "first ms", "tokenizer ms", "peak MB loading", "answering")
    made = table("", *headings, right=(2, 3, 4, 5, 6, 7))
    for row in rows:
        cold, memory = row["cold_start"] or {}, row["memory"] or {}
        made.add_row(
            Text(row["name"], style="bold"),
            row["runtime"],
            figures.megabytes(row["bytes_on_disk"]),
            figures.milliseconds(cold.get("load_ms")),
            figures.milliseconds(cold.get("first_ms")),
            figures.milliseconds(row["tokenizer_ms"]),
            _count(memory.get("load_rss_mb")),
            _count(memory.get("run_rss_mb") or memory.get("peak_rss_mb")),
        )
    return made


def _conditions(found: Conditions, machine: str) -> Table:
    made = table()
    for name, text in figures.conditions(found):
        busy = name == "machine" and found.busy
        made.add_row(Text(name, style="dim"), Text(text, style="bold yellow" if busy else ""))
    made.add_row(Text("fingerprint", style="dim"), Text(machine))
    return made


def _count(value: float | None) -> str:
    if value is None:
        return figures.ABSENT
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"

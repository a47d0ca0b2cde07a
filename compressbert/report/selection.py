"""Which rows a plot shows when a report has many: the baseline, the Pareto front, the last, in the report's order."""

from __future__ import annotations

from collections.abc import Sequence

from compressbert.report import figures
from compressbert.results.report import Report, ReportRow


def pareto_front(report: Report) -> tuple[ReportRow, ...]:
    """The rows that no other row beats in both quality and latency, the fastest first.

    Compared by their values, not their intervals. Rows without either figure are left out.
    """
    found = [
        (cell.p50_ms, -quality.value if quality.direction == "higher" else quality.value, row)
        for row in report.rows
        if (quality := figures.primary(row)) is not None
        and (cell := figures.headline_latency(row)) is not None
    ]
    front = []
    best = float("inf")
    for _, cost, row in sorted(found, key=lambda point: point[:2]):
        if cost < best:
            front.append(row)
            best = cost
    return tuple(front)


def notable(report: Report, rows: Sequence[ReportRow], limit: int) -> tuple[ReportRow, ...]:
    """``rows``; of more than ``limit`` the baseline, the last, and of the front what there is room for."""
    if len(rows) <= limit:
        return tuple(rows)
    names = {row.name for row in rows}
    front = [row.name for row in pareto_front(report) if row.name in names]
    chosen = {report.baseline, report.rows[-1].name} & names
    room = limit - len(chosen)
    others = [name for name in front if name not in chosen]
    if len(others) > room:  # spread over the front, its ends among them
        others = [others[round(index * (len(others) - 1) / max(room - 1, 1))] for index in range(room)]
    chosen |= set(others)
    return tuple(row for row in rows if row.name in chosen) or tuple(rows[:limit])


def chain(report: Report) -> tuple[ReportRow, ...]:
    """The rows that led to the last one, the first of them first; one row alone is no chain and gives ``()``."""
    rows = {row.name: row for row in report.rows}
    path = [report.rows[-1]]
    while (parent := rows.get(path[-1].parent or "")) is not None and parent not in path:
        path.append(parent)
    return tuple(reversed(path)) if len(path) > 1 else ()

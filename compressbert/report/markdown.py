"""A report as Markdown, for a repository, a pull request or a job's summary."""

from __future__ import annotations

import json
from collections.abc import Sequence

from compressbert.report import figures
from compressbert.results.record import Report, ReportRow

_VERDICTS = {"pass": "✓ pass", "fail": "✗ fail", "cannot-tell": "? cannot tell"}


def render(report: Report) -> str:
    """The whole report as GitHub-flavoured Markdown, ending in a newline."""
    parts = [f"# {escape(report.title)}", escape(figures.summary(report))]
    parts += [f"> {escape(text)}" for text in report.notes]
    parts.append(_results(report))
    if any(row.speedup_by_cell for row in report.rows):
        parts += ["## Speed-up by shape", _speedups(report)]
    if any(row.survey for row in report.rows):
        parts += ["## The survey's figures", _survey(report)]
    if report.gates:
        parts += ["## Gates", _gates(report)]
    parts += ["## Environment", _environment(report)]
    if report.config:
        settings = json.dumps(report.config, indent=2, ensure_ascii=False)
        fence = "`" * max(3, _longest_run(settings, "`") + 1)
        parts += [f"<details><summary>Settings</summary>\n\n{fence}json\n{settings}\n{fence}\n\n</details>"]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it stands, in a table cell too."""
    for mark in "\\`*_[]|#":
        text = text.replace(mark, "\\" + mark)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A Markdown table of finished cells; the first ``left`` columns are text, the others figures."""
    lines = [headings, ["---" if column < left else "---:" for column in range(len(headings))], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _results(report: Report) -> str:
    names = {row.primary_metric for row in report.rows if row.primary_metric}
    metric = escape(" / ".join(sorted(names))) or "quality"
    headings = [
        "",
        metric,
        "retained %",
        "size ×",
        "encoder ×",
        "speed-up ×",
        "MB",
        "p50 ms",
        "peak MB",
        "flips",
        "McNemar p",
    ]
    table_rows = [_result(row, baseline=row.name == report.baseline) for row in report.rows]
    note = (
        "Brackets hold 95 % intervals; ratios are against the baseline; p50 is the median latency of a call."
    )
    return f"{table(headings, table_rows)}\n\n{note}"


def _result(row: ReportRow, *, baseline: bool) -> list[str]:
    cell = figures.headline_latency(row)
    method = f" ({escape(row.method)})" if row.method else ""
    return [
        f"**{escape(row.name)}**{method}{' · baseline' if baseline else ''}",
        figures.metric_text(figures.primary(row), row.primary_metric),
        figures.percent(row.retained),
        figures.times(row.compression),
        figures.times(row.compression_encoder),
        figures.times_interval(row.speedup),
        figures.megabytes(row.bytes_on_disk),
        figures.milliseconds(cell.p50_ms if cell else None),
        figures.memory(row),
        figures.ABSENT if row.flips is None else str(row.flips),
        escape(figures.p_value(row.mcnemar_p)),
    ]


def _speedups(report: Report) -> str:
    cells = figures.cells_of(report)
    rows = [
        [escape(row.name), *(figures.times_interval(row.speedup_by_cell.get(cell)) for cell in cells)]
        for row in report.rows
        if row.speedup_by_cell
    ]
    return table(["", *(figures.cell_label(cell) for cell in cells)], rows)


def _survey(report: Report) -> str:
    rows = [
        [
            f"{escape(row.name)} ({escape(row.method or row.step)})",
            " / ".join(
                (
                    figures.times(row.compression),
                    figures.percent(row.retained),
                    figures.times_interval(row.speedup),
                )
            ),
            escape(" / ".join(figures.survey_columns(row.survey))),
        ]
        for row in report.rows
        if row.survey
    ]
    return table(["", "here: size × / retained % / speed-up ×", "theirs"], rows)


def _gates(report: Report) -> str:
    rows = [[escape(gate.name), _VERDICTS[gate.verdict], escape(gate.reason)] for gate in report.gates]
    return table(["gate", "verdict", "why"], rows, left=3)


def _environment(report: Report) -> str:
    machine = report.environment
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    isa = f" ({', '.join(machine.isa)})" if machine.isa else ""
    return escape(f"{machine.cpu}{isa}, {machine.cores} cores · {versions}")


def _longest_run(text: str, mark: str) -> int:
    longest = run = 0
    for character in text:
        run = run + 1 if character == mark else 0
        longest = max(longest, run)
    return longest

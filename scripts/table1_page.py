"""The page of the table: Markdown, made from what the runs left and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from compressbert.report import figures
from compressbert.report.markdown import escape, table
from compressbert.results.record import Interval, StepResult
from compressbert.results.report import Report, ReportRow
from compressbert.results.store import read_result
from scripts.table1_plan import CONTROL, STUDENT, Entry

TITLE = "# The survey's Table 1, measured here"
END = "<!-- end of the table -->"
BUSY, RESUMED = "†", "‡"

ABOUT = """\
Every method of the family and its control: the same student, with the same start, data and number of steps, trained
without the method. All are measured on one harness against the teacher:

- **compression**: bytes of the teacher's ONNX file ÷ the student's, both fp32 and whole (embeddings included);
- **retained**: the student's metric ÷ the teacher's on the same validation rows, with a paired 95 % interval;
- **speed-up**: the teacher's median latency ÷ the student's, as ONNX in onnxruntime, one thread, the validation texts
  one at a time, interleaved in fresh processes, with a 95 % interval;
- **over its control**: the student's metric − its control's, in points, with a paired 95 % interval.

The survey's figures stand beside them. They are of other teachers (BERT-base unless it says otherwise) and other,
mostly larger data: they say what a method can do, not what these runs should reach. A row that failed says so."""


@dataclass(frozen=True)
class Line:
    """What is known of one line of the table."""

    entry: Entry
    status: Literal["done", "failed", "changed", "unfinished", "missing"]
    record: dict[str, Any]
    report: Report | None


def page_with(before: str, lines: Sequence[Line], without: Sequence[str], family: str) -> str:
    """The page ``before`` with the family's part as it is now; parts of other families stay."""
    begin = f"<!-- generated: scripts/table1.py --family {family} -->"
    part = f"{begin}\n{section(lines, without, family)}\n{END}"
    head, found, rest = before.partition(begin)
    if not found:
        return f"{before.rstrip() or TITLE}\n\n{part}\n"
    return head + part + rest.partition(END)[2]


def section(lines: Sequence[Line], without: Sequence[str], family: str) -> str:
    """The family's part: how far it is, what the columns mean, a table for each task."""
    parts = [f"## {family}", ABOUT, progress(lines, without)]
    for task in dict.fromkeys(line.entry.task.name for line in lines):
        parts += task_part([line for line in lines if line.entry.task.name == task])
    return "\n\n".join(parts)


def progress(lines: Sequence[Line], without: Sequence[str]) -> str:
    """How many rows there are, in bold while it is not all of them."""
    done = sum(line.status == "done" for line in lines)
    failed = sum(line.status == "failed" for line in lines)
    text = f"{done} of {len(lines)} rows are done, {failed} failed."
    if done < len(lines) or without:
        text = f"**This table is partial: {text}**"
    if without:
        text += f" Without a config, and so not in it: {', '.join(map(escape, without))}."
    return text


def task_part(lines: Sequence[Line]) -> list[str]:
    """A task's heading, what its rows share, the table, and what each row is."""
    headings = (
        "method", "compression", "retained, %", "speed-up", "survey: size", "kept", "speed",
        "control retained, %", "over its control, points", "steps (control)", "seconds (control)",
    )  # fmt: skip
    rows = [cells(line) for line in lines]
    marks = "".join(cell for row in rows for cell in row)
    parts = [f"### {escape(lines[0].entry.task.name)}", shared(lines)]
    parts.append(table(headings, rows, textual=(True, *[False] * 10)))
    if BUSY in marks:
        parts.append(f"{BUSY} Timed while other programs kept the machine busy.")
    if RESUMED in marks:
        parts.append(f"{RESUMED} Interrupted and resumed: the seconds are those since the last start.")
    return [*parts, "\n".join(map(about, lines))]


def shared(lines: Sequence[Line]) -> str:
    """Teacher, data and machine, of the first row that is done."""
    line = next((line for line in lines if line.report is not None), None)
    if line is None or line.report is None:
        return "No row is done yet."
    teacher, result = line.report.rows[0], _result(line.report, STUDENT)
    quality = figures.metric_text(figures.primary(teacher), teacher.primary_metric)
    facts = [
        f"Teacher: {escape(line.entry.task.teacher_name)}, {figures.millions(teacher.parameters)} M "
        f"parameters, {escape(teacher.primary_metric or 'quality')} {quality}, "
        f"{figures.megabytes(teacher.bytes_on_disk)} MB and {_latency(teacher)} ms as ONNX."
    ]
    if result.lineage and result.lineage[-1].data is not None:
        counts = result.lineage[-1].data.rows
        facts.append(
            f"Data: {counts.get('train', 0):,} training rows, {counts.get('validation', 0):,} validation rows."
        )
    environment = line.report.environment
    torch, runtime = (environment.versions.get(name, "?") for name in ("torch", "onnxruntime"))
    facts.append(f"Made on {escape(environment.cpu)}, torch {torch}, onnxruntime {runtime}.")
    return " ".join(facts)


def cells(line: Line) -> list[str]:
    """The cells of a line; a dash for what was not measured."""
    info = line.entry.method
    theirs = figures.survey_columns(info.survey or {})
    name = f"{escape(str((info.survey or {}).get('row', info.name)))} (`{info.name}`)"
    dash = figures.ABSENT
    if line.report is None:
        status = {"missing": "not run yet", "changed": "not run since it changed"}.get(
            line.status, line.status
        )
        return [name, status, dash, dash, *theirs, dash, dash, dash, dash]
    student = _row(line.report, STUDENT)
    control = next((row for row in line.report.rows if row.name == CONTROL), None)
    busy = BUSY if line.report.conditions is not None and line.report.conditions.busy else ""
    return [
        name,
        figures.times(student.compression),
        figures.percent(student.retained),
        figures.times_interval(student.speedup) + busy,
        *theirs,
        figures.percent(control.retained) if control else dash,
        gain_text(line.record.get("gain"), student.primary_metric),
        _with_control(line.report, control, lambda result: f"{steps_of(result):,}"),
        _with_control(line.report, control, lambda result: f"{result.seconds:,.0f}")
        + (RESUMED if line.record.get("resumed") else ""),
    ]


def gain_text(gain: dict[str, float] | None, metric: str | None) -> str:
    """``+1.2 [+0.1, +2.3]``, in points where the metric is a fraction."""
    if gain is None:
        return figures.ABSENT
    found = Interval(**gain)
    scale, digits = (100.0, 1) if figures.in_percent(metric) else (1.0, 3)
    value, low, high = (
        figures.signed(number * scale, digits) for number in (found.value, found.low, found.high)
    )
    return f"{value} [{low}, {high}]"


def about(line: Line) -> str:
    """What a row is, how it went and what it was made from."""
    entry = line.entry
    title = entry.pipeline.get("report", {}).get("title") or "see its config"
    text = f"- `{entry.method.name}` ([config](../{_config(entry.file)})): {escape(title)}."
    if line.status == "failed":
        text += f" **Failed:** {escape(str(line.record.get('error')))}"
    return text


def steps_of(result: StepResult) -> int:
    """Optimizer steps of all stages of a training: each stage's log ends with its last step."""
    steps = [int(entry["step"]) for entry in result.training]
    last = [step for step, after in zip(steps, [*steps[1:], 0], strict=True) if after <= step]
    return sum(last)


def _config(file: Path) -> str:
    parts = file.parts
    return "/".join(parts[parts.index("configs") :]) if "configs" in parts else file.name


def _row(report: Report, name: str) -> ReportRow:
    return next(row for row in report.rows if row.name == name)


def _result(report: Report, name: str) -> StepResult:
    return read_result(Path(_row(report, name).folder or ""))


def _with_control(report: Report, control: ReportRow | None, text: Any) -> str:
    own = str(text(_result(report, STUDENT)))
    return f"{own} ({text(_result(report, CONTROL))})" if control else own


def _latency(row: ReportRow) -> str:
    cell = figures.headline_latency(row)
    return figures.milliseconds(cell.p50_ms if cell else None)

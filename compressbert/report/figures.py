"""How numbers are written, the same in the terminal, in Markdown and in HTML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compressbert.results.measured import DATA_CELL, cell_name
from compressbert.results.record import Conditions, Interval, LatencyCell, MetricResult
from compressbert.results.report import Report, ReportRow

ABSENT = "–"
# every other metric lies in [-1, 1] and is shown in percent
_UNBOUNDED = ("loss", "perplexity", "error")


def in_percent(metric: str | None) -> bool:
    """Whether a metric is shown in percent."""
    return metric is not None and not any(word in metric.lower() for word in _UNBOUNDED)


def primary(row: ReportRow) -> MetricResult | None:
    """The row's primary metric, if it was measured."""
    return row.quality.get(row.primary_metric or "")


def headline_latency(row: ReportRow) -> LatencyCell | None:
    """The latency that speaks for the row: the data's own lengths where timed, else the first cell."""
    cells = {cell_name(cell.batch, cell.length): cell for cell in row.latency}
    return cells.get(DATA_CELL) or next(iter(cells.values()), None)


def name_of(cell: LatencyCell) -> str:
    """The name of a latency cell."""
    return cell_name(cell.batch, cell.length)


def cell_label(name: str) -> str:
    """A latency cell's name as a person reads it."""
    own = "data's lengths"
    batch, _, length = name.partition("x")
    if name == DATA_CELL:
        return own
    return f"{batch} × {own if length == DATA_CELL else length}"


def metric_text(found: Interval | None, metric: str | None) -> str:
    """``89.1 [87.0, 91.1]``; in percent where the metric is a fraction."""
    if found is None:
        return ABSENT
    scale, digits = (100.0, 1) if in_percent(metric) else (1.0, 3)
    return f"{fixed(found.value * scale, digits)} {bounds(found, scale=scale, digits=digits)}"


def bounds(found: Interval, *, scale: float = 1.0, digits: int = 1) -> str:
    """``[87.0, 91.1]``."""
    return f"[{fixed(found.low * scale, digits)}, {fixed(found.high * scale, digits)}]"


def fixed(value: float, digits: int) -> str:
    """``value`` with so many decimals, a true minus sign, and no minus before a zero."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def percent(found: Interval | None) -> str:
    """A fraction in percent with its interval."""
    return ABSENT if found is None else f"{found.value * 100:.1f} {bounds(found, scale=100.0)}"


def times(value: float | None) -> str:
    """``4.9×``, with as many digits as carry meaning."""
    return ABSENT if value is None else f"{value:.{2 if value < 10 else 1}f}×"


def times_interval(found: Interval | None) -> str:
    """``8.12× [7.90, 8.30]``."""
    if found is None:
        return ABSENT
    return f"{times(found.value)} {bounds(found, digits=2 if found.value < 10 else 1)}"


def megabytes(size: int | None) -> str:
    """Bytes in 10^6, one decimal; two below 10."""
    return ABSENT if size is None else f"{size / 1e6:.{2 if size < 10e6 else 1}f}"


def milliseconds(value: float | None) -> str:
    """Milliseconds to three significant digits."""
    if value is None:
        return ABSENT
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f}"


def millions(count: int | None) -> str:
    """A count in millions."""
    return ABSENT if count is None else f"{count / 1e6:.2f}"


def memory(row: ReportRow) -> str:
    """Peak memory in 10^6 bytes."""
    return ABSENT if row.memory is None else f"{row.memory.peak_rss_mb:.0f}"


def p_value(p: float | None) -> str:
    """A p-value: ``0.043``, ``< 0.001``."""
    if p is None:
        return ABSENT
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def signed(value: float, digits: int = 1) -> str:
    """``+1.2``, ``−0.3``, ``0.0``."""
    text = fixed(value, digits)
    return f"+{text}" if value > 0 and float(text) != 0 else text


def p_text(p: float) -> str:
    """``p = 0.043``, ``p < 0.001``."""
    text = p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def survey_columns(survey: Mapping[str, Any]) -> tuple[str, str, str]:
    """The survey's figures of a method in its own columns: compression, performance retained, speed-up."""
    forms = {"compression": "{}×", "retained": "{} %", "speedup": "{}×"}
    found = [ABSENT if survey.get(key) is None else form.format(survey[key]) for key, form in forms.items()]
    return found[0], found[1], found[2]


def summary(report: Report) -> str:
    """The whole report in a sentence: the last row against the baseline."""
    last = report.rows[-1]
    if last.name == report.baseline:
        found = primary(last)
        quality = f" Its {last.primary_metric} is {metric_text(found, last.primary_metric)}." if found else ""
        return f"{last.name} is the baseline; there is nothing to compare it with yet.{quality}"
    parts = []
    if last.compression is not None:
        parts.append(_change(last.compression, "smaller", "larger"))
    if last.speedup is not None:
        parts.append(f"{_change(last.speedup.value, 'faster', 'slower')} {bounds(last.speedup, digits=2)}")
    if last.retained is not None:
        kept = f"{last.retained.value * 100:.1f} % {bounds(last.retained, scale=100)}"
        parts.append(f"keeps {kept} of the {last.primary_metric}")
    if not parts:
        return f"{last.name} was not measured against {report.baseline}."
    listed = ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]
    verb = "" if last.retained is not None and len(parts) == 1 else "is "
    return f"Against {report.baseline}, {last.name} {verb}{listed}."


def _change(ratio: float, more: str, less: str) -> str:
    return f"{times(ratio)} {more}" if ratio >= 1 else f"{times(1 / ratio)} {less}"


def cells_of(report: Report) -> tuple[str, ...]:
    """Names of all latency cells with a speed-up, the data's own lengths first."""
    names = dict.fromkeys(name for row in report.rows for name in row.speedup_by_cell)
    return tuple(sorted(names, key=lambda name: name != DATA_CELL))


def plain(value: float) -> str:
    """A number without trailing zeros: ``0.5``, ``20``."""
    return f"{value:g}".replace("-", "−")


def count(value: float | None) -> str:
    """A count with separators, to three digits below a hundred: ``1,240``, ``12.4``."""
    if value is None:
        return ABSENT
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def points(value: float, metric: str | None) -> str:
    """An amount of a metric: ``1 point``, ``2.5 points``; as it stands where it is no percentage."""
    if not in_percent(metric):
        return f"{value:.3g} {metric or ''}".strip()
    return f"{value * 100:.3g} point{'' if abs(value) == 0.01 else 's'}"


def metric_bounds(found: Interval, metric: str | None) -> str:
    """The interval of a metric: ``[87.0, 91.1]``."""
    return bounds(found, scale=100.0) if in_percent(metric) else bounds(found, digits=3)


def lost_text(drop: Interval, metric: str | None) -> str:
    """``4.2 points [1.1, 7.3]``."""
    return f"{points(round(drop.value, 4), metric)} {metric_bounds(drop, metric)}"


def seeds_text(row: ReportRow) -> str:
    """``88.9 ± 0.4 (3)``: mean, standard deviation and number of seeds."""
    if row.seeds is None:
        return ABSENT
    scale, digits = (100.0, 1) if in_percent(row.primary_metric) else (1.0, 3)
    mean, deviation = row.seeds.mean * scale, row.seeds.sd * scale
    return f"{mean:.{digits}f} ± {deviation:.{digits}f} ({len(row.seeds.values)})"


def noninferiority_text(report: Report, row: ReportRow) -> str:
    """Whether the row is no worse than the baseline, in a sentence."""
    if row.noninferiority is None:
        return ""
    margin = points(row.noninferiority.margin, row.primary_metric)
    claim = f"no worse than {report.baseline} by more than {margin}"
    return {
        "yes": f"At 95 %, {row.name} is {claim}.",
        "no": f"At 95 %, {row.name} is worse than {report.baseline} by more than {margin}.",
        "cannot-tell": f"Whether {row.name} is {claim} cannot be told from these rows.",
    }[row.noninferiority.answer]


def step_speedup(report: Report, before: ReportRow, after: ReportRow) -> float | None:
    """How many times faster ``after`` is: by both rows' speed-ups over the baseline, else by their medians."""
    first, second = _speedup(report, before), _speedup(report, after)
    if first and second:
        return second / first
    cell, earlier = headline_latency(after), headline_latency(before)
    return earlier.p50_ms / cell.p50_ms if cell and earlier and cell.p50_ms else None


def _speedup(report: Report, row: ReportRow) -> float | None:
    if row.name == report.baseline:
        return 1.0
    return row.speedup.value if row.speedup else None


def worse_slices(report: Report) -> list[str]:
    """A sentence for each slice on which the last row lost more than on the rest."""
    last = report.rows[-1]
    return [
        f"{part.name} lost {lost_text(part.drop, last.primary_metric)} on {part.examples:,} rows, more than the rest"
        + (f" ({p_text(part.p)})." if part.p is not None else ".")
        for part in last.slices
        if part.worse
    ]


def conditions(found: Conditions) -> list[tuple[str, str]]:
    """The circumstances of a timing run, as names and texts."""
    cores = ", ".join(map(str, found.affinity))
    told = [
        ("threads", f"{found.threads}" + (f", bound to core{'s' if ',' in cores else ''} {cores}" if cores else "")),
        ("rounds", f"{found.rounds}, interleaved, in {found.seconds:.0f} s"),
    ]  # fmt: skip
    if found.half_width is not None:
        told.append(("precision", f"ratios to within ± {found.half_width * 100:.1f} %"))
    if found.load_before is not None and found.load_after is not None:
        told.append(("load average", f"{found.load_before:.2f} before, {found.load_after:.2f} after"))
    if found.other_cores is not None:
        told.append(("other processes", f"kept {found.other_cores:.2f} cores busy"))
    return [*told, ("machine", "busy: absolute times are too long" if found.busy else "quiet")]


def shortened(text: str, limit: int = 400) -> str:
    """``text``, cut after ``limit`` characters."""
    return text if len(text) <= limit else f"{text[:limit].rstrip()}…"

"""The report's tables, made once for the page and for Markdown. A column that holds no figure is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from compressbert.report import figures
from compressbert.report.rows import components_of
from compressbert.report.selection import chain
from compressbert.results.record import Interval, LatencyCell
from compressbert.results.report import Report, ReportRow


@dataclass(frozen=True)
class Cell:
    """One cell: a figure, its interval or another remark, and its meaning where it is a verdict (`pass`, `yes`)."""

    text: str = figures.ABSENT
    beside: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class Line:
    """One row of a table."""

    name: str
    cells: tuple[Cell, ...]
    beside: str = ""


@dataclass(frozen=True)
class Table:
    """Headings of the columns after the names, whether each is text, and the rows."""

    headings: tuple[str, ...]
    textual: tuple[bool, ...]
    lines: tuple[Line, ...]
    first: str = "step"


@dataclass(frozen=True)
class Column:
    """A heading and what each row has to say under it; None: nothing was measured."""

    heading: str
    cell: Callable[[ReportRow], Cell | None]
    textual: bool = False


def results(report: Report, *, brief: bool = False) -> Table:
    """The survey's columns with intervals, and what stands behind them; ``brief`` fits a terminal."""
    metric = metric_of(report)

    def latency(row: ReportRow) -> Cell | None:
        cell = median(figures.headline_latency(row))
        return Cell(cell.text) if cell and brief else cell

    columns = [
        Column(heading(metric), lambda row: scaled(figures.primary(row), row.primary_metric)),
        Column("size ×" if brief else "compression ×", lambda row: plain(figures.times(row.compression))),
        Column("retained, %", lambda row: scaled(row.retained, "retained")),
        Column("speed-up ×", lambda row: ratio(row.speedup)),
        Column("MB", lambda row: plain(figures.megabytes(row.bytes_on_disk))),
        Column("p50, ms", latency),
        Column("peak MB", lambda row: plain(figures.memory(row))),
    ]
    if not brief:
        columns.append(Column("encoder ×", lambda row: plain(figures.times(row.compression_encoder))))
        columns.append(Column("params, M", lambda row: plain(figures.millions(row.parameters))))

    def beside(row: ReportRow) -> str:
        parts = (
            row.method or (row.step if row.step != row.name else ""),
            "baseline" if row.name == report.baseline else "",
        )
        return " · ".join(part for part in parts if part)  # fmt: skip

    return _table(columns, report.rows, beside)


def survey(report: Report) -> Table | None:
    """The survey's own figures beside ours, for the methods that have a row there."""
    rows = [row for row in report.rows if row.survey]

    def theirs(index: int) -> Callable[[ReportRow], Cell | None]:
        return lambda row: Cell(figures.survey_columns(row.survey or {})[index])

    def where(row: ReportRow) -> Cell | None:
        found = row.survey or {}
        told = [str(found[key]) for key in ("evaluated_on", "remark") if found.get(key)]
        return Cell(str(found["row"]), ". ".join(told)) if found.get("row") else None

    columns = [
        Column("compression, here", lambda row: Cell(figures.times(row.compression))),
        Column("the survey's", theirs(0)),
        Column("retained, here", lambda row: scaled(row.retained, "retained") or Cell()),
        Column("the survey's", theirs(1)),
        Column("speed-up, here", lambda row: ratio(row.speedup) or Cell()),
        Column("the survey's", theirs(2)),
        Column("the survey's row", where, textual=True),
    ]
    return _table(columns, rows, lambda row: row.method or row.step) if rows else None


def steps(report: Report) -> Table | None:
    """What each step of the chain changed against the one before it."""
    rows = chain(report)
    before = dict(zip((row.name for row in rows[1:]), rows, strict=False))

    def lost(row: ReportRow) -> Cell | None:
        found, earlier = figures.primary(row), figures.primary(before[row.name])
        if found is None or earlier is None:
            return None
        scale, digits = (100, 1) if figures.in_percent(row.primary_metric) else (1, 3)
        return Cell(figures.signed((found.value - earlier.value) * scale, digits))

    def faster(row: ReportRow) -> Cell | None:
        return plain(figures.times(figures.step_speedup(report, before[row.name], row)))

    def smaller(row: ReportRow) -> Cell | None:
        size, earlier = row.bytes_on_disk, before[row.name].bytes_on_disk
        return Cell(figures.times(earlier / size)) if size and earlier else None

    metric = metric_of(report)
    unit = "points" if figures.in_percent(metric) else metric
    columns = [Column(f"{unit} gained", lost), Column("faster ×", faster), Column("smaller ×", smaller)]
    return _table(columns, rows[1:]) if rows else None


def claims(report: Report) -> Table | None:
    """What the quality figures allow to say: loss, non-inferiority, changed predictions, seeds."""
    rows = [row for row in report.rows if row.quality_drop is not None or row.seeds is not None]
    metric = metric_of(report)

    def noninferior(row: ReportRow) -> Cell | None:
        if row.noninferiority is None:
            return None
        margin = figures.points(row.noninferiority.margin, row.primary_metric)
        return Cell(_spoken(row.noninferiority.answer), f"by more than {margin}", row.noninferiority.answer)

    def seeds(row: ReportRow) -> Cell | None:
        if row.seeds is None:
            return None
        return Cell(figures.seeds_text(row), figures.metric_bounds(row.seeds.interval, row.primary_metric))

    columns = [
        Column("points lost" if figures.in_percent(metric) else "lost", lambda row: scaled(row.quality_drop, metric)),
        Column("no worse than the baseline", noninferior, textual=True),
        Column("predictions changed", lambda row: None if row.flips is None else Cell(f"{row.flips:,}")),
        Column("McNemar p", lambda row: plain(figures.p_value(row.mcnemar_p))),
        Column("seeds: mean ± sd", seeds),
    ]  # fmt: skip
    return _table(columns, rows) if rows else None


def scores(report: Report) -> Table | None:
    """Every metric, where there is more than one."""
    names = list(dict.fromkeys(name for row in report.rows for name in row.quality))

    def column(name: str) -> Column:
        return Column(heading(name), lambda row: scaled(row.quality.get(name), name))

    rows = [row for row in report.rows if row.quality]
    return _table([column(name) for name in names], rows) if len(names) > 1 else None


def portability(report: Report) -> Table | None:
    """What int8 files compute on a CPU without VNNI, whose 16-bit sums may saturate."""
    rows = [row for row in report.rows if row.portability is not None]

    def answer(row: ReportRow) -> Cell | None:
        found = row.portability
        if found is None:
            return None
        if found.valid_on == "any":
            return Cell("exact", "every product fits", "yes")
        return Cell("saturates", f"{found.saturating_pairs:,} of {found.pairs:,} pairs of weights", "no")

    def quality(row: ReportRow) -> Cell | None:
        found = row.portability
        return (
            scaled(found.quality_without_vnni.get(row.primary_metric or ""), row.primary_metric)
            if found
            else None
        )

    metric = heading(metric_of(report))
    columns = [
        Column("int8 products without VNNI", answer, textual=True),
        Column(f"{metric}, there", quality),
        Column(f"{metric}, here", lambda row: scaled(figures.primary(row), row.primary_metric)),
    ]
    return _table(columns, rows) if rows else None


def latencies(report: Report) -> Table | None:
    """Everything timed in the cell that speaks for a row, and what comes before the first call."""
    rows = [row for row in report.rows if row.latency]

    def of_cell(text: Callable[[LatencyCell], str]) -> Callable[[ReportRow], Cell | None]:
        def cell(row: ReportRow) -> Cell | None:
            found = figures.headline_latency(row)
            return plain(text(found)) if found else None

        return cell

    def of_memory(name: str) -> Callable[[ReportRow], Cell | None]:
        def cell(row: ReportRow) -> Cell | None:
            found = getattr(row.memory, name) if row.memory else None
            return None if found is None else Cell(f"{found:.0f}")

        return cell

    def cold(name: str) -> Callable[[ReportRow], Cell | None]:
        return lambda row: (
            Cell(figures.milliseconds(getattr(row.cold_start, name))) if row.cold_start else None
        )

    columns = [
        Column("p50, ms", lambda row: median(figures.headline_latency(row))),
        Column("p95, ms", of_cell(lambda cell: figures.milliseconds(cell.p95_ms))),
        Column("p99, ms", of_cell(lambda cell: figures.milliseconds(cell.p99_ms))),
        Column("texts a second", of_cell(lambda cell: figures.count(cell.per_second))),
        Column("tokenizer, ms", lambda row: plain(figures.milliseconds(row.tokenizer_ms))),
        Column("opens in, ms", cold("load_ms")),
        Column("first answer, ms", cold("first_ms")),
        Column("MB to open", of_memory("load_rss_mb")),
        Column("MB to answer", of_memory("run_rss_mb")),
        Column("calls timed", of_cell(lambda cell: figures.count(cell.runs))),
    ]  # fmt: skip

    def beside(row: ReportRow) -> str:
        found = figures.headline_latency(row)
        return "" if found is None or found.steady else "warm-up never steady"

    return _table(columns, rows, beside) if rows else None


def sizes(report: Report) -> Table | None:
    """Bytes by component, parameters and compute."""
    rows = [row for row in report.rows if row.bytes_on_disk]

    def component(name: str) -> Column:
        return Column(name, lambda row: Cell(figures.megabytes(row.bytes_by_component.get(name))))

    columns = [
        Column("MB", lambda row: plain(figures.megabytes(row.bytes_on_disk))),
        *(component(name) for name in components_of(rows)),
        Column("params, M", lambda row: plain(figures.millions(row.parameters))),
        Column("not zero, M", lambda row: plain(figures.millions(row.nonzero_parameters))),
        Column("layers only, M", lambda row: plain(figures.millions(row.encoder_parameters))),
        Column("MACs a token, M", lambda row: plain(figures.millions(row.macs_per_token))),
    ]
    return _table(columns, rows) if rows else None


def speedups(report: Report) -> Table | None:
    """The speed-up in every latency cell."""
    rows = [row for row in report.rows if row.speedup_by_cell]

    def column(cell: str) -> Column:
        return Column(figures.cell_label(cell), lambda row: ratio(row.speedup_by_cell.get(cell)))

    return _table([column(cell) for cell in figures.cells_of(report)], rows) if rows else None


def gates(report: Report) -> Table | None:
    """The verdicts."""
    if not report.gates:
        return None
    lines = (
        Line(gate.name, (Cell(_spoken(gate.verdict), verdict=gate.verdict), Cell(gate.reason)))
        for gate in report.gates
    )
    return Table(("verdict", "why"), (True, True), tuple(lines), first="gate")


def metric_of(report: Report) -> str:
    """The primary metric of the rows, as a heading."""
    return next((row.primary_metric for row in report.rows if row.primary_metric), "quality")


def heading(metric: str) -> str:
    """A metric with its unit."""
    return f"{metric}, %" if figures.in_percent(metric) and metric != "quality" else metric


def scaled(found: Interval | None, metric: str | None) -> Cell | None:
    """A value with its interval, in percent where the metric is a fraction."""
    if found is None:
        return None
    value, _, bounds = figures.metric_text(found, metric).partition(" ")
    return Cell(value, bounds)


def ratio(found: Interval | None) -> Cell | None:
    """A ratio with its interval."""
    if found is None:
        return None
    value, _, bounds = figures.times_interval(found).partition(" ")
    return Cell(value, bounds)


def median(cell: LatencyCell | None) -> Cell | None:
    """A median latency with its interval."""
    if cell is None:
        return None
    low, high = figures.milliseconds(cell.low), figures.milliseconds(cell.high)
    return Cell(figures.milliseconds(cell.p50_ms), f"[{low}, {high}]")


def plain(text: str) -> Cell | None:
    """A cell of ``text``; None where it says that nothing was measured."""
    return None if text == figures.ABSENT else Cell(text)


def _spoken(answer: str) -> str:
    return answer.replace("-", " ")


def _table(
    columns: Sequence[Column], rows: Iterable[ReportRow], beside: Callable[[ReportRow], str] = lambda row: ""
) -> Table:
    rows = tuple(rows)
    found = [(column, [column.cell(row) for row in rows]) for column in columns]
    kept = [(column, cells) for column, cells in found if any(cell is not None for cell in cells)]
    lines = tuple(
        Line(row.name, tuple(cells[index] or Cell() for _, cells in kept), beside(row))
        for index, row in enumerate(rows)
    )
    return Table(tuple(c.heading for c, _ in kept), tuple(c.textual for c, _ in kept), lines)

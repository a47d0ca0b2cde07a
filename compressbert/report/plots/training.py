"""Training curves: the loss of each trained row and its parts, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compressbert.report import figures
from compressbert.report.plots import frame
from compressbert.report.plots.frame import GAP, NARROW
from compressbert.report.selection import notable
from compressbert.report.svg import LINE, Drawing, Scale, padded, text_width
from compressbert.results.report import Report, ReportRow

SHOWN = 9
_HEIGHT = 190.0
_APART = ("step", "loss", "learning_rate")  # logged beside the loss's parts

Curve = list[tuple[float, float]]


def draw(report: Report, width: float = NARROW) -> list[tuple[str, str]]:
    """One SVG for each row that was trained: its name and the drawing."""
    rows = notable(report, [row for row in report.rows if len(_logged(row)) > 1], SHOWN)
    return [(row.name, _draw(row, index, width)) for index, row in enumerate(rows)]


def _logged(row: ReportRow) -> list[Mapping[str, float]]:
    return [point for point in row.training if "loss" in point and point.get("step", 0) > 0]


def _draw(row: ReportRow, index: int, width: float) -> str:
    log = _logged(row)
    stages = _stages(log)
    names = list(dict.fromkeys(name for point in log for name in point if name not in _APART))
    shown = ["loss", *(names if len(names) > 1 else [])]
    entries = [(name, "ink" if name == "loss" else frame.kind_of(names.index(name))) for name in shown]
    last = log[-1]["loss"]
    drawing = Drawing(
        f"training-{index}-{width:.0f}", width, _HEIGHT, title=f"Training of {row.name}",
        description=f"{len(log)} logged points; the loss ended at {figures.plain(round(last, 4))}.",
    )  # fmt: skip
    top, bottom = frame.legend(drawing, entries) + 2, _HEIGHT - 2 * LINE - GAP
    values = [point[name] for point in log for name in shown if name in point]
    low, high = padded([0.0, *values], 0.04)
    y = Scale(0.0 if min(values) >= 0 else low, high, bottom, top)
    ticks = y.ticks(4)
    left = max(text_width(figures.plain(tick)) for tick in ticks) + GAP
    end = stages[-1][-1][0]
    x = Scale(0, end, left, width - GAP)
    for tick in ticks:
        drawing.line(left, y(tick), width - GAP, y(tick), "grid")
        drawing.text(left - GAP, y(tick) + 4, figures.plain(tick), anchor="end", kind="soft")
    frame.horizontal_axis(drawing, x, top=bottom, bottom=bottom, label="step")
    for stage in stages[1:]:
        drawing.line(x(stage[0][0]), top, x(stage[0][0]), bottom, "rule dashed")
    for name, kind in reversed(entries):
        for stage in stages:
            curve = [(x(at), y(point[name])) for at, point in stage if name in point]
            if curve:
                drawing.path(curve, f"mark curve {kind}{'' if name == 'loss' else ' thin'}", name)
    return drawing.render()


def _stages(log: Sequence[Mapping[str, float]]) -> list[list[tuple[float, Mapping[str, float]]]]:
    """The logged points by stage, on one axis of steps: a stage begins where the step number falls back."""
    stages: list[list[tuple[float, Mapping[str, float]]]] = [[]]
    before = offset = 0.0
    for point in log:
        step = point["step"]
        if step <= before:
            offset += before
            stages.append([])
        stages[-1].append((offset + step, point))
        before = step
    return stages

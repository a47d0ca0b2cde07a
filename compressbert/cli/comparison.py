"""What `evaluate` shows of labels, and of a comparison with a baseline."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from compressbert.cli.show import table
from compressbert.report.figures import in_percent, p_value
from compressbert.results.record import Comparison, Flip, Interval, MetricResult, NonInferiority, Slice

_SHOWN_FLIPS = 5
_LONGEST_TEXT = 100
_ANSWERS = {"yes": ("yes", "green"), "no": ("no", "bold red"), "cannot-tell": ("cannot tell", "yellow")}


def comparison_parts(
    found: Comparison, quality: dict[str, MetricResult], baseline: str
) -> list[RenderableType]:
    """Losses in every metric, the statements about the primary one, slices and the worst flips."""
    parts: list[RenderableType] = [Text(f"\nagainst {baseline}", style="bold"), _statements(found, quality)]
    parts += [Text(), _losses(found, quality)]
    if found.slices:
        parts += [Text(), _slices(found.slices)]
    if found.worst_flips:
        parts += [Text(), _flips(found.worst_flips[:_SHOWN_FLIPS])]
    return parts


def label_table(quality: dict[str, MetricResult]) -> Table | None:
    """Precision and recall of each label; None where the task has none."""
    labels = [name[len("recall[") : -1] for name in quality if name.startswith("recall[")]
    if not labels:
        return None
    made = table("label", "precision", "recall", right=(1, 2))
    for label in labels:
        cells = (quality[f"{kind}[{label}]"] for kind in ("precision", "recall"))
        made.add_row(Text(label), *(_bounded(cell, "precision") for cell in cells))
    return made


def points(found: Interval, metric: str, *, signed: bool = True) -> str:
    """``+0.34 [-0.61, +1.32]``, in points where the metric is shown in percent."""
    scale, digits = (100, 2) if in_percent(metric) else (1, 4)
    sign = "+" if signed else ""
    value, low, high = (
        f"{round(scale * number, digits) + 0.0:{sign}.{digits}f}"
        for number in (found.value, found.low, found.high)
    )
    return f"{value} [{low}, {high}]"


def _bounded(found: Interval, metric: str) -> str:
    return points(found, metric, signed=False)


def _statements(found: Comparison, quality: dict[str, MetricResult]) -> Table:
    rows = table()
    unit = " points" if in_percent(found.metric) else ""
    rows.add_row("lost", f"{points(found.drop, found.metric)}{unit} of {found.metric}; less than 0 is a gain")
    if found.retained is not None:
        rows.add_row("retained", f"{points(found.retained, 'share', signed=False)} %")
    if found.noninferiority is not None:
        rows.add_row(_margin(found.noninferiority), Text(*_ANSWERS[found.noninferiority.answer]))
    if found.flips is not None:
        examples = quality[found.metric].examples
        text = f"{len(found.flips):,} of {examples:,} rows"
        if found.newly_wrong is not None and found.newly_right is not None:
            text += f": {found.newly_wrong:,} newly wrong, {found.newly_right:,} newly right"
        if found.mcnemar_p is not None:
            text += f" (McNemar's p {p_value(found.mcnemar_p)})"
        rows.add_row("flips", text)
    return rows


def _margin(found: NonInferiority) -> str:
    if found.relative:
        return f"no more than {100 * found.margin:g} % worse"
    return f"no more than {100 * found.margin:g} point{'' if found.margin == 0.01 else 's'} worse"


def _losses(found: Comparison, quality: dict[str, MetricResult]) -> Table:
    made = table("metric", "baseline", "this model", "lost", right=(1, 2, 3))
    for name, drop in found.drops.items():
        if "[" in name or name not in quality:
            continue
        now = quality[name]
        sign = 1 if now.direction == "higher" else -1
        scale, digits = (100, 2) if in_percent(name) else (1, 4)
        before = scale * (now.value + sign * drop.value)
        made.add_row(name, f"{before:.{digits}f}", _bounded(now, name), points(drop, name))
    return made


def _slices(slices: tuple[Slice, ...]) -> Table:
    made = table("slice", "rows", "baseline", "this model", "lost", "p", "", right=(1, 2, 3, 4, 5))
    for part in slices:
        scale, digits = (100, 1) if in_percent(part.metric) else (1, 4)
        made.add_row(
            Text(part.name),
            f"{part.examples:,}",
            f"{scale * part.baseline:.{digits}f}",
            f"{scale * part.candidate:.{digits}f}",
            points(part.drop, part.metric),
            p_value(part.p),
            Text("loses more than the rest", style="bold red") if part.worse else "",
        )
    return made


def _flips(flips: tuple[Flip, ...]) -> Table:
    made = table("row", "label", "baseline", "this model", "text", right=(0,))
    for flip in flips:
        text = flip.text if flip.text_pair is None else f"{flip.text} | {flip.text_pair}"
        made.add_row(
            str(flip.row),
            Text(flip.label or ""),
            Text(f"{flip.baseline} {flip.baseline_margin:.1f}"),
            Text(f"{flip.candidate} {flip.candidate_margin:.1f}"),
            Text(text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"),
        )
    return made

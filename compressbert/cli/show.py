"""Results as tables for a person. Text of users is never interpreted as markup."""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import BaseModel
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from compressbert.cli.console import duration
from compressbert.report.figures import in_percent
from compressbert.results.record import MetricResult, ModelFacts, SeedSummary, StepResult


def settings_yaml(settings: BaseModel) -> str:
    """Resolved settings as YAML."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def table(*headings: str, right: tuple[int, ...] = ()) -> Table:
    """An empty table in the house style; columns in ``right`` are flushed right."""
    made = Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=bool(headings), header_style="bold"
    )
    for index, heading in enumerate(headings):
        made.add_column(heading, justify="right" if index in right else "left")
    return made


def step_tables(result: StepResult, output: str | None) -> list[RenderableType]:
    """What one step left: quality, size, and where it was written."""
    rows = table()
    for name, metric in result.quality.items():
        if "[" not in name:  # those of single labels are `evaluate`'s
            rows.add_row(name, metric_text(name, metric))
    if result.seeds is not None:
        rows.add_row("seeds", seeds_text(result.primary_metric or "", result.seeds))
    if result.model is not None:
        _add_model(rows, result.model)
    rows.add_row("time", duration(result.seconds))
    if output is not None:
        rows.add_row("written to", Text(output))
    return [rows]


def metric_text(name: str, metric: MetricResult) -> str:
    """``89.11 % [87.04, 91.17] (872 examples)``."""
    scale, unit, digits = (100, " %", 2) if in_percent(name) else (1, "", 4)
    value, low, high = (f"{scale * number:.{digits}f}" for number in (metric.value, metric.low, metric.high))
    return f"{value}{unit} [{low}, {high}] ({metric.examples:,} examples)"


def seeds_text(name: str, found: SeedSummary) -> str:
    """``accuracy 89.02 ± 0.31 % over 3 seeds [87.9, 90.1]``."""
    scale, unit, digits = (100, " %", 2) if in_percent(name) else (1, "", 4)
    mean, sd, low, high = (
        f"{scale * number:.{digits}f}"
        for number in (found.mean, found.sd, found.interval.low, found.interval.high)
    )
    return f"{name} {mean} ± {sd}{unit} over {len(found.values)} seeds [{low}, {high}]"


def _add_model(rows: Table, model: ModelFacts) -> None:
    parts = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in model.bytes_by_component.items() if size)
    rows.add_row("size", f"{model.bytes_on_disk / 1e6:.1f} MB" + (f" ({parts})" if parts else ""))
    zeros = model.parameters - model.nonzero_parameters
    rows.add_row("parameters", f"{model.parameters:,}" + (f" ({zeros:,} of them zero)" if zeros else ""))
    if not model.layers:  # no transformer
        rows.add_row("width", f"{model.hidden}")
        return
    rows.add_row("layers", f"{model.layers}, width {model.hidden}")
    rows.add_row("heads", _per_layer(model.heads_per_layer))
    rows.add_row("FFN neurons", _per_layer(model.ffn_per_layer))


def _per_layer(values: tuple[int, ...]) -> str:
    if len(set(values)) == 1:
        return f"{values[0]} in each layer"
    return " ".join(str(value) for value in values)


def verify_table(document: dict[str, Any]) -> Table:
    """What each loader said, from `verify`'s JSON document."""
    made = table("loader", "status", "difference", "", right=(2,))
    styles = {"ok": "green", "failed": "bold red"}
    for row in document["rows"]:
        difference = row["max_difference"]
        made.add_row(
            Text(row["loader"]),
            Text(row["status"], style=styles.get(row["status"], "yellow")),
            "" if difference is None else f"{difference:.2g}",
            Text(row.get("detail") or ""),
        )
    return made


def plan_table(document: dict[str, Any]) -> Table:
    """What a pipeline would do, from `run --dry-run`'s JSON document."""
    made = table("step", "kind", "action", "why", "folder")
    for step in document["steps"]:
        action = Text(step["action"], style="green" if step["action"] == "run" else "dim")
        made.add_row(Text(step["name"]), step["kind"], action, Text(step["reason"]), Text(step["folder"]))
    return made

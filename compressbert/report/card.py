"""Model cards: the README.md of a model or export folder, from what was recorded and measured and nothing else.

The front matter is what the Hugging Face hub reads (`card_metadata.py`), the code is run by the tests (`card_code.py`),
and `card_limits.py` says what was not tested.
A card describes a folder and is no part of what identifies it: people edit it, and a pipeline adds speed once that is
measured, as long as the card still ends with the line that says who wrote it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from compressbert.report import figures
from compressbert.report.card_code import usage
from compressbert.report.card_facts import Card, Form, Measured, file_name, form_of, hub_name
from compressbert.report.card_limits import limits
from compressbert.report.card_metadata import front_matter
from compressbert.report.markdown import escape, fenced, table
from compressbert.results.hashing import CARD_NAME
from compressbert.results.measured import cell_name
from compressbert.results.record import LineageStep, ModelFacts, StepResult
from compressbert.results.store import write_text_atomic

SIGNATURE = "<!-- Written by compressbert, which may write it again; without this line it stays as it is. -->"

__all__ = ["SIGNATURE", "Card", "Measured", "render", "write_card"]


def write_card(card: Card, folder: Path) -> bool:
    """Write README.md into ``folder``, unless there is one that somebody edited; say whether it was written.

    Args:
        card: What is known of the folder.
        folder: A model folder or an export folder, its other files in place.
    """
    file = folder / CARD_NAME
    if file.is_file() and SIGNATURE not in file.read_text(encoding="utf-8", errors="replace"):
        return False
    write_text_atomic(file, render(card, form_of(folder)))
    return True


def render(card: Card, form: Form) -> str:
    """The whole card. The same facts give the same text."""
    sections = [
        f"# {escape(card.result.step)}",
        _what(card, form),
        f"## Use\n\n{usage(card, form)}",
        f"## How it came about\n\n{_lineage(card.result)}",
        f"## Quality\n\n{_quality(card)}",
        *([f"## Size\n\n{_size(card.result)}"] if card.result.model else []),
        f"## Speed\n\n{_speed(card)}",
        f"## Limits\n\n{_bullets(limits(card, form))}",
        f"## Made with\n\n{_made_with(card.result)}",
        SIGNATURE,
    ]
    return f"---\n{front_matter(card, form)}---\n\n" + "\n\n".join(sections) + "\n"


def _what(card: Card, form: Form) -> str:
    model = card.result.model
    parts = [escape(form.architecture or "An encoder")]
    if model is not None:
        parts += [f"{model.layers} layers"] if model.layers else []
        parts.append(f"{figures.millions(model.parameters)} M parameters")
        parts.append(f"{figures.megabytes(model.bytes_on_disk)} MB")
    form_text = {"transformers": "", "onnx": "as ONNX, ", "openvino": "as OpenVINO IR, "}[form.library]
    number = "int8 weights" if form.is_int8 else "floating-point weights"
    text = f"{', '.join(parts)}, {form_text}{number}."
    if form.labels:
        text += f" Labels: {escape(', '.join(form.labels))}."
    return text


def _lineage(result: StepResult) -> str:
    rows = [
        [
            str(number),
            escape(step.command),
            escape(step.method or figures.ABSENT),
            escape(_settings_text(step)),
            str(step.seed),
            escape(_trained_on(step)),
            _read(step),
        ]
        for number, step in enumerate(result.lineage, start=1)
    ]
    if not rows:
        return "Not recorded."
    everything = [
        {**step.model_dump(mode="json", exclude={"parent", "data"}), "model read": step.parent.sha256}
        for step in result.lineage
    ]
    details = fenced(json.dumps(everything, indent=2, ensure_ascii=False), "json")
    listed = table(
        ["", "step", "method", "settings", "seed", "trained on", "model read"], rows, textual=[True] * 7
    )
    return f"{listed}\n\n<details><summary>All settings</summary>\n\n{details}\n\n</details>"


def _settings_text(step: LineageStep) -> str:
    settings = step.settings.get("method") or step.settings.get("export") or {}
    shown = [f"{key}={json.dumps(value)}" for key, value in settings.items() if value is not None]
    train = step.settings.get("train") or {}
    shown += [f"{key}={train[key]}" for key in ("epochs", "learning_rate", "batch_size") if key in train]
    return ", ".join(shown) or figures.ABSENT


def _trained_on(step: LineageStep) -> str:
    if step.data is None or "train" not in step.settings:
        return figures.ABSENT
    section = step.data.section
    name = f"{section['hub']}, split train" if section.get("hub") else file_name(section.get("train") or "")
    rows = step.data.rows.get("train")
    return f"{name} ({rows:,} rows)" if rows is not None else name


def _read(step: LineageStep) -> str:
    name = hub_name(step.parent)
    if name is not None:
        return f"[{escape(name)}](https://huggingface.co/{name})"
    return f"sha256 {step.parent.sha256[:12]}"


def _quality(card: Card) -> str:
    result = card.result
    if not result.quality:
        return "Not scored: there was no labelled data."
    rows = [
        [
            f"{escape(name)}{' (primary)' if name == result.primary_metric else ''}",
            f"{metric.value:.4f}",
            f"{metric.low:.4f} to {metric.high:.4f}",
            f"{metric.examples:,}",
        ]
        for name, metric in result.quality.items()
    ]
    parts = [
        f"On {_rows_text(card)}.",
        table(["metric", "value", "95 % interval", "rows"], rows, textual=[True, False, False, False]),
    ]
    return "\n\n".join([*parts, *_against_baseline(card)])


def _rows_text(card: Card) -> str:
    data = card.section
    if data.get("hub"):
        return escape(f"{data['hub']}, split {data.get('validation') or 'validation'}")
    return escape(file_name(data.get("validation") or "its validation rows"))


def _against_baseline(card: Card) -> Iterator[str]:
    measured = card.measured
    if measured is None or measured.row.name == measured.baseline or measured.row.retained is None:
        return
    row = measured.row
    text = (
        f"Against {escape(measured.baseline)}, on the same rows: {figures.percent(row.retained)} % retained"
    )
    if row.flips is not None:
        text += f", {row.flips:,} predictions changed"
    if row.mcnemar_p is not None:
        text += f" (McNemar p {escape(figures.p_value(row.mcnemar_p))})"
    yield f"{text}. Brackets hold 95 % intervals."
    worse = [part for part in row.slices if part.worse]
    if worse:
        listed = ", ".join(f"{escape(part.name)} ({figures.percent(part.drop)} points)" for part in worse)
        yield f"Parts of the rows that lost significantly more than the rest: {listed}."


def _size(result: StepResult) -> str:
    model = result.model
    if model is None:
        return ""
    sizes = ", ".join(
        f"{escape(name)} {figures.megabytes(size)}" for name, size in model.bytes_by_component.items() if size
    )
    rows = [
        ["weights on disk", f"{figures.megabytes(model.bytes_on_disk)} MB ({sizes})"],
        ["parameters", f"{model.parameters:,} ({model.nonzero_parameters:,} not zero)"],
        ["parameters of the encoder", f"{model.encoder_parameters:,}"],
        *_layers(model),
        ["hidden", f"{model.hidden:,}"],
        ["multiply-accumulates per token", f"{model.macs_per_token:,}"],
    ]
    return table(["", ""], rows, textual=[True, True])


def _layers(model: ModelFacts) -> list[list[str]]:
    if not model.layers:
        return []  # no transformer
    return [
        ["heads per layer", _list(model.heads_per_layer)],
        ["FFN neurons per layer", _list(model.ffn_per_layer)],
    ]


def _list(values: tuple[int, ...]) -> str:
    return ", ".join(str(value) for value in values)


def _speed(card: Card) -> str:
    measured = card.measured
    if measured is None or not measured.row.latency:
        return "Not measured."
    row, machine, ms = measured.row, measured.environment, figures.milliseconds
    cells = []
    for cell in row.latency:
        name = cell_name(cell.batch, cell.length)
        cells.append(
            [
                figures.cell_label(name),
                f"{ms(cell.p50_ms)} [{ms(cell.low)}, {ms(cell.high)}]",
                ms(cell.p95_ms),
                figures.times_interval(row.speedup_by_cell.get(name)),
            ]
        )
    headings = ["batch × length", "p50 ms", "p95 ms", f"against {escape(measured.baseline)}"]
    first = row.latency[0]
    where = f"{escape(first.runtime)}, threads: {first.threads}, {escape(machine.cpu)}"
    if measured.timed_as_export:
        where += "; timed as ONNX, exported for the measurement"
    memory = (
        f" Peak memory of a process that loads and runs it: {figures.memory(row)} MB." if row.memory else ""
    )
    busy = measured.conditions is not None and measured.conditions.busy
    warning = " Other processes kept the machine busy meanwhile." if busy else ""
    listed = table(headings, cells, textual=[True, False, False, False])
    return f"{listed}\n\nOn {where}.{memory}{warning} Brackets hold 95 % intervals."


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _made_with(result: StepResult) -> str:
    machine = result.environment
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    isa = f" ({', '.join(machine.isa)})" if machine.isa else ""
    return escape(f"{versions}, on {machine.cpu}{isa}")

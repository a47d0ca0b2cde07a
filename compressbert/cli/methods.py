"""`compressbert methods`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from compressbert.cli.console import Screen
from compressbert.cli.options import method_names

if TYPE_CHECKING:
    from rich.console import RenderableType

    from compressbert.methods.registry import MethodInfo


Name = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help="Show one method with its settings.", autocompletion=method_names),
]


def methods(screen: Screen, name: Name = None) -> int:
    """List the methods, or show one with its settings.

    Example: compressbert methods michel
    """
    from compressbert.methods.registry import find_method, list_methods

    if name is None:
        listed = list_methods()
        screen.show({"schema_version": 1, "methods": [_document(info) for info in listed]}, _table(listed))
        return 0
    info = find_method(name)
    settings = _settings(info)
    screen.show({"schema_version": 1, **_document(info), "settings": settings}, *_page(info, settings))
    return 0


def _document(info: MethodInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "family": info.family,
        "summary": info.summary,
        "paper": info.paper,
        "needs": list(info.needs),
        "survey": info.survey,
        "train_defaults": info.train_defaults,
    }


def _table(listed: tuple[MethodInfo, ...]) -> RenderableType:
    from compressbert.cli.show import table

    made = table("family", "name", "what it does", "needs", "survey: size ×, retained %, speed ×", "paper")
    for info in listed:
        needs = ", ".join(info.needs) or "nothing"
        made.add_row(info.family, info.name, info.summary, needs, _survey_text(info.survey), info.paper)
    return made


def _survey_text(survey: dict[str, Any] | None) -> str:
    if survey is None:
        return "–"
    return ", ".join(str(survey.get(key) or "–") for key in ("compression", "retained", "speedup"))


def _survey_row(survey: dict[str, Any]) -> str:
    """A row of the survey's Table 1 as a sentence or two."""
    layers = "1 layer" if survey["layers"] == 1 else f"{survey['layers']} layers"
    parts = [f"{survey['row']}, {layers}: {survey['compression']}× smaller"]
    parts.append(f"{survey['retained']} % retained")
    if survey["speedup"]:
        parts.append(f"{survey['speedup']}× faster")
    text = f"{', '.join(parts)} ({survey['evaluated_on']})."
    return f"{text} {survey['remark']}" if "remark" in survey else text


def _training_text(defaults: dict[str, Any]) -> str:
    shown = {name: f"{value:g}" if isinstance(value, float) else value for name, value in defaults.items()}
    return ", ".join(f"train.{name} {value}" for name, value in shown.items())


def _settings(info: MethodInfo) -> list[dict[str, Any]]:
    """Every setting with its default and description (imports the method)."""
    from compressbert.methods.registry import config_class

    schema = config_class(info).model_json_schema()["properties"]
    return [
        {"name": name, "default": field.get("default"), "description": field.get("description", "")}
        for name, field in schema.items()
    ]


def _page(info: MethodInfo, settings: list[dict[str, Any]]) -> list[RenderableType]:
    import json

    from rich.text import Text

    from compressbert.cli.show import table

    facts = table()
    for label, value in (
        ("command", f"compressbert {info.family} --method {info.name}"),
        ("paper", info.paper),
        ("needs", ", ".join(info.needs) or "nothing"),
        ("survey", _survey_row(info.survey) if info.survey else "no row"),
        ("training", _training_text(info.train_defaults) or "the common defaults"),
    ):
        facts.add_row(Text(label, style="bold"), value)
    made = table("setting", "default", "")
    for setting in settings:
        made.add_row(setting["name"], json.dumps(setting["default"]), setting["description"])
    return [Text(f"{info.summary}\n"), facts, Text(), made]

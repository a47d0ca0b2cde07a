"""JSON Schemas of settings, for editors, with each method's own settings as a choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from compressbert.config.schema import PipelineConfig
from compressbert.config.steps import STEP_SCHEMAS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ANY_METHOD = "MethodSettings"  # the definition that pydantic makes of the class of that name

Methods = Mapping[str, type[BaseModel]]  # name to the schema of its settings


def settings_schema(schema: type[BaseModel], methods: Methods) -> dict[str, Any]:
    """The JSON Schema of one command's settings, with each of ``methods`` as a choice for its ``method``."""
    document = schema.model_json_schema()
    _offer_methods(document, methods)
    return {"$schema": DIALECT, **_with_base(document)}


def pipeline_schema(methods_of: Mapping[str, Methods]) -> dict[str, Any]:
    """The JSON Schema of a pipeline: each step by its kind, with the methods of that kind."""
    document = PipelineConfig.model_json_schema()
    definitions = document.setdefault("$defs", {})
    kinds = []
    for kind, schema in STEP_SCHEMAS.items():
        step = schema.model_json_schema(ref_template=f"#/$defs/{kind}.{{model}}")
        _offer_methods(step, methods_of.get(kind, {}), prefix=f"{kind}.")
        definitions |= {f"{kind}.{name}": value for name, value in step.pop("$defs", {}).items()}
        definitions[kind] = step
        empty = [] if "required" in step else [{"type": "null"}]  # `- finetune:` with nothing below
        entry = {"anyOf": [{"$ref": f"#/$defs/{kind}"}, *empty]}
        kinds.append(
            {"type": "object", "properties": {kind: entry}, "required": [kind], "additionalProperties": False}
        )
    document["properties"]["steps"]["items"] = {"anyOf": kinds}
    return {"$schema": DIALECT, **_with_base(document)}


def _offer_methods(document: dict[str, Any], methods: Methods, prefix: str = "") -> None:
    definitions = document.get("$defs", {})
    if _ANY_METHOD not in definitions or not methods:
        return
    choices = []
    for name, schema in methods.items():
        settings = schema.model_json_schema(ref_template=f"#/$defs/{prefix}{name}.{{model}}")
        definitions |= {f"{name}.{inner}": value for inner, value in settings.pop("$defs", {}).items()}
        settings["title"] = name
        settings["properties"] = {"name": {"const": name}, **settings.get("properties", {})}
        settings["required"] = ["name", *settings.get("required", [])]
        choices.append(settings)
    definitions[_ANY_METHOD] = {"title": "method", "oneOf": choices}


def _with_base(document: dict[str, Any]) -> dict[str, Any]:
    """Allow ``base`` beside the settings; a file that inherits may leave out what its base states."""
    base = {"type": "string", "description": "A YAML file to inherit from, relative to this one."}
    required = document.pop("required", [])
    document["properties"] = {"base": base, **document["properties"]}
    document["anyOf"] = [{"required": ["base"]}, {"required": required}]
    return document

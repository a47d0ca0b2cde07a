"""`compressbert schema`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from compressbert.cli.console import Screen

What = Annotated[
    str | None,
    typer.Argument(
        metavar="WHAT", help="A command, result, report or regression; all of them when left out."
    ),
]


def schema(screen: Screen, what: What = None) -> int:
    """Print the JSON Schema of settings or results.

    Example: compressbert schema run > pipeline.schema.json
    """
    from compressbert.cli.inputs import SCHEMAS
    from compressbert.config.problems import suggestion
    from compressbert.errors import ConfigError
    from compressbert.results.schema import RECORDS

    known = [*SCHEMAS, *RECORDS]
    if what is not None and what not in known:
        hint = f"Known: {', '.join(known)}."
        raise ConfigError(f"no schema is named '{what}'{suggestion(what, known)}", hint=hint)
    document = _schema(what) if what is not None else {name: _schema(name) for name in known}
    screen.text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return 0


def _schema(what: str) -> dict[str, Any]:
    from compressbert.cli.inputs import COMPRESS, SCHEMAS
    from compressbert.config.json_schema import Methods, pipeline_schema, settings_schema
    from compressbert.methods.registry import config_class, list_methods
    from compressbert.results.schema import RECORDS, record_schema

    def methods(family: str) -> Methods:
        return {info.name: config_class(info) for info in list_methods() if info.family == family}

    if what in RECORDS:
        return record_schema(what)
    if what == "run":
        return pipeline_schema({family: methods(family) for family in COMPRESS})
    return settings_schema(SCHEMAS[what], methods(what) if what in COMPRESS else {})

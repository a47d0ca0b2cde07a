"""From a config file, options and ``--set`` to the checked settings of one command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from compressbert.config.document import Document
from compressbert.config.load import STDIN, load_document, validate, validate_pipeline
from compressbert.config.schema import (
    BenchmarkConfig,
    CompressConfig,
    EvaluateConfig,
    ExportStepConfig,
    FinetuneConfig,
    PipelineConfig,
)
from compressbert.errors import ConfigError
from compressbert.methods.registry import config_class, find_method, settings_outline

Schema = TypeVar("Schema", bound=BaseModel)
Split = Literal["train", "validation"]

COMPRESS = ("distill", "prune", "quantize")
SCHEMAS: Mapping[str, type[BaseModel]] = {
    "finetune": FinetuneConfig,
    "distill": CompressConfig,
    "prune": CompressConfig,
    "quantize": CompressConfig,
    "export": ExportStepConfig,
    "evaluate": EvaluateConfig,
    "benchmark": BenchmarkConfig,
    "run": PipelineConfig,
}
_DATA_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".txt", ".gz")


def read_document(
    config: str | None, overrides: Sequence[str] | None, options: Mapping[str, tuple[str, Any]] | None = None
) -> Document:
    """The settings as written; ``config`` is a path, ``-`` or None."""
    source = None if config is None else STDIN if config == STDIN else Path(config)
    return load_document(source, overrides or (), options)


def model_options(
    *,
    model: str | None = None,
    method: str | None = None,
    data: str | None = None,
    validation: str | None = None,
    columns: str | None = None,
    seeds: int | None = None,
    output: str | None = None,
    split: Split = "train",
) -> dict[str, tuple[str, Any]]:
    """The options as settings; ``split`` is what ``--data`` names for this command."""
    options: dict[str, tuple[str, Any]] = {
        "--model": ("model.path", model),
        "--method": ("method.name", method),
        "--data": (f"data.{split}" if data is None or _is_file(data) else "data.hub", data),
        "--validation": ("data.validation", validation),
        "--seeds": ("seeds", seeds),
        "--output": ("output", output),
    }
    for name, column in _columns(columns).items():
        options[f"--columns {name}={column}"] = (f"data.columns.{name}", column)
    return options


def _is_file(data: str) -> bool:
    return Path(data).exists() or data.endswith(_DATA_SUFFIXES)


def _columns(text: str | None) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",")] if text else []
    for name, equals, column in pairs:
        if not (name and equals and column):
            raise ConfigError(f"--columns {text}: expected names such as text=sentence,label=label")
    return {name.strip(): column.strip() for name, _, column in pairs}


def checked(document: Document, command: str) -> BaseModel:
    """The settings of ``command``, everything checked, its method's settings too (which imports the method).

    Raises:
        ConfigError: Everything that is wrong.
    """
    if command == "run":
        return validate_pipeline(document, method_schema=_full_schema)
    schema = SCHEMAS[command]
    return validate(
        document, schema, method_schema=partial(_full_schema, command) if command in COMPRESS else None
    )


def checked_names(document: Document) -> PipelineConfig:
    """A pipeline's settings checked without importing any method: a finished pipeline needs no more.

    Method names and the names of their settings are checked, the settings' values are not.
    """
    return validate_pipeline(
        document, method_schema=lambda family, name: settings_outline(find_method(name, family))
    )


def settings_of(
    document: Document, command: str, schema: type[Schema], *, needs_output: bool = False
) -> Schema:
    """`checked`, as an instance of ``schema``, with the folder to write where one is needed.

    Raises:
        ConfigError: Everything that is wrong.
    """
    if not document.data:
        raise ConfigError(
            f"{command} was given no settings",
            hint=f"See `compressbert {command} --help`; `compressbert init {command}` writes a config.",
        )
    settings = checked(document, command)
    if not isinstance(settings, schema):
        raise TypeError(f"{command} has settings of type {type(settings).__name__}")
    if needs_output and getattr(settings, "output", None) is None:
        raise ConfigError(
            "no output folder was given", hint="Add --output DIR, or `output: DIR` to the config."
        )
    return settings


def _full_schema(family: str, name: str) -> type[BaseModel]:
    return config_class(find_method(name, family))

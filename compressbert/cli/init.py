"""`compressbert init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from compressbert.cli.console import Screen
from compressbert.cli.options import Method, Overwrite

Command = Annotated[str, typer.Argument(metavar="COMMAND", help="The command to write settings for.")]
File = Annotated[
    str | None, typer.Option("--output", "-o", metavar="FILE", help="File to write; default: stdout.")
]

_DATA = {"data.train": "data/train.csv", "data.validation": "data/validation.csv"}
_STEPS = """
  - finetune: {train: {epochs: 3}}
  - distill:  {method: {name: distilbert, layers: 3}}
  - prune:    {method: {name: michel, keep: 0.75}}
  - quantize: {method: {name: dynamic_int8}}
  - export:   {format: onnx}"""
_EXAMPLES: dict[str, dict[str, Any]] = {
    "finetune": {"model.path": "google-bert/bert-base-uncased", **_DATA, "output": "runs/teacher"},
    "distill": {"model.path": "runs/teacher", **_DATA, "output": "runs/student"},
    "prune": {"model.path": "runs/teacher", **_DATA, "output": "runs/pruned"},
    "quantize": {"model.path": "runs/teacher", "output": "runs/int8"},
    "export": {"model.path": "runs/int8", "export.precision": "auto", "output": "runs/onnx"},
    "evaluate": {"model.path": "runs/onnx", "data.validation": "data/validation.csv"},
    "benchmark": {"models": ["runs/teacher-onnx", "runs/onnx"], "data.validation": "data/validation.csv"},
    "run": {"name": "my-run", "model.path": "google-bert/bert-base-uncased", **_DATA, "steps": _STEPS},
}


def init(
    screen: Screen, command: Command, method: Method = None, output: File = None, overwrite: Overwrite = False
) -> int:
    """Write a commented starter config.

    Example: compressbert init distill -o distill.yaml
    """
    from compressbert.cli.inputs import SCHEMAS
    from compressbert.config.problems import suggestion
    from compressbert.errors import ConfigError

    if command not in SCHEMAS:
        hint = f"Known: {', '.join(SCHEMAS)}."
        raise ConfigError(f"no command '{command}' takes a config{suggestion(command, SCHEMAS)}", hint=hint)
    text = starter_text(command, method)
    if output is None:
        screen.text(text)
        return 0
    file = Path(output)
    if file.exists() and not overwrite:
        raise ConfigError(f"{file} exists", hint="Add --overwrite to replace it, or choose another file.")
    from compressbert.results.store import write_text_atomic

    write_text_atomic(file, text)
    return 0


def starter_text(command: str, method: str | None) -> str:
    """The starter config of a command; ``method`` defaults to the first of the family."""
    from compressbert.cli.inputs import COMPRESS, SCHEMAS
    from compressbert.config.starter import Starter
    from compressbert.errors import ConfigError
    from compressbert.methods.registry import config_class, find_method, list_methods

    title = f"Settings of `compressbert {command}`."
    examples = _EXAMPLES[command]
    if command in COMPRESS:
        name = method or next(info.name for info in list_methods() if info.family == command)
        info = find_method(name, command)
        defaults = {f"train.{key}": value for key, value in info.train_defaults.items()}
        filled = Starter({**examples, "method.name": name}, defaults, config_class(info))
        return filled.text(SCHEMAS[command], title)
    if method is not None:
        raise ConfigError(f"{command} takes no method")
    return Starter(examples).text(SCHEMAS[command], title)

"""`compressbert check`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from compressbert.cli.console import Screen
from compressbert.cli.options import NeededConfig, Set

Command = Annotated[
    str | None,
    typer.Option("--command", metavar="COMMAND", help="The command the settings are for; default: guessed."),
]


def check(screen: Screen, config: NeededConfig, command: Command = None, overrides: Set = None) -> int:
    """Validate a config without running anything.

    Prints ok, or every problem with its line.

    Example: compressbert check pipeline.yaml
    """
    from rich.text import Text

    from compressbert.cli.inputs import SCHEMAS, checked, read_document
    from compressbert.config.problems import suggestion
    from compressbert.errors import ConfigError

    if command is not None and command not in SCHEMAS:
        hint = f"Known: {', '.join(SCHEMAS)}."
        raise ConfigError(f"no command '{command}' takes a config{suggestion(command, SCHEMAS)}", hint=hint)
    document = read_document(config, overrides)
    kind = command or guessed_command(document.data)
    checked(document, kind)
    result = {"schema_version": 1, "config": config, "command": kind, "ok": True}
    screen.show(result, Text(f"ok: settings of {kind}"))
    return 0


def guessed_command(data: dict[str, Any]) -> str:
    """The command whose settings these look like."""
    if "steps" in data:
        return "run"
    if "models" in data:
        return "benchmark"
    if "method" in data:
        return _family(data["method"])
    if "export" in data or "data" not in data:
        return "export"
    section = data["data"]
    trains = "train" in data or (isinstance(section, dict) and "train" in section)
    return "finetune" if trains else "evaluate"


def _family(method: Any) -> str:
    from compressbert.methods.registry import list_methods

    name = method.get("name") if isinstance(method, dict) else None
    return next((info.family for info in list_methods() if info.name == name), "prune")

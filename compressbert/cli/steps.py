"""What the commands that do one step share: show the settings or do the work, then show the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compressbert.cli.console import Screen
from compressbert.config.schema import StepConfig
from compressbert.results.record import StepResult

if TYPE_CHECKING:
    from rich.console import RenderableType

Extra = Callable[[StepResult], "Sequence[RenderableType]"]


def perform(
    screen: Screen,
    command: str,
    settings: StepConfig,
    work: Callable[[], StepResult],
    *,
    dry_run: bool,
    overwrite: bool,
    extra: Extra | None = None,
) -> int:
    """Do one step and show its record, ``extra`` parts of it last; with ``dry_run`` only show what would be done.

    Raises:
        ConfigError: The output folder cannot be written (checked before any work).
    """
    from compressbert.cli.show import settings_yaml, step_tables
    from compressbert.progress import note
    from compressbert.results.store import check_target

    if settings.output is not None:
        check_target(Path(settings.output), overwrite=overwrite)
    if dry_run:
        show_intention(screen, command, settings)
        return 0
    if screen.verbose:
        note(settings_yaml(settings).rstrip())
    result = work()
    screen.show(
        result.model_dump(mode="json"),
        *step_tables(result, settings.output),
        *(extra(result) if extra else ()),
    )
    return 0


def show_intention(screen: Screen, command: str, settings: StepConfig) -> None:
    """Print what a command would do, with its resolved settings."""
    from rich.text import Text

    from compressbert.cli.show import settings_yaml

    document = {
        "schema_version": 1,
        "dry_run": True,
        "command": command,
        "output": settings.output,
        "config": settings.model_dump(mode="json"),
    }
    target = f"would write {settings.output}" if settings.output else "would write no folder"
    screen.show(
        document, Text(f"{command} {target}, with these settings:\n"), Text(settings_yaml(settings).rstrip())
    )

"""`compressbert report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compressbert.cli.console import Screen
from compressbert.cli.options import Output

Folders = Annotated[
    list[Path], typer.Argument(metavar="DIR...", help="One run folder, or step folders to compare.")
]
Baseline = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Step folder the others are compared with; default: the first."),
]


def report(screen: Screen, folders: Folders, baseline: Baseline = None, output: Output = None) -> int:
    """Show a run's report, or compare step folders.

    Example: compressbert report runs/sst2
    """
    from compressbert.pipeline.steps.report import report as step
    from compressbert.report.terminal import render

    found = step(folders, baseline=baseline, output=Path(output) if output is not None else None)
    screen.show(found.model_dump(mode="json"), render(found))
    return 0

"""`compressbert report`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compressbert.cli.console import Screen
from compressbert.cli.options import Junit, Output

if TYPE_CHECKING:
    from compressbert.results.regression import Kind

Folders = Annotated[
    list[Path], typer.Argument(metavar="DIR...", help="One run folder, or run and step folders to compare.")
]
Baseline = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="An earlier run or its report.json: say what got worse since, exit code 1 if anything did. "
        "Or a step folder: compare the others with it instead of with the first.",
    ),
]
Tolerance = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KIND=VALUE",
        help="What may change in a regression check: quality=0.01 (in the metric's units), speed=0.05, "
        "size=0.01, memory=0.1 (as fractions). Repeatable.",
    ),
]
GatesFile = Annotated[
    Path | None,
    typer.Option(
        "--gates",
        metavar="FILE.yaml",
        help="Judge the last row by the limits in this file, which holds what stands under `gates:` in a pipeline; "
        "exit code 1 if one fails.",
    ),
]


def report(
    screen: Screen,
    folders: Folders,
    *,
    baseline: Baseline = None,
    tolerance: Tolerance = None,
    gates: GatesFile = None,
    junit: Junit = None,
    output: Output = None,
) -> int:
    """Show a run's report, compare runs or steps, or check what got worse since an earlier report.

    With --output the result is written as JSON, Markdown and HTML. --gates judges figures that were measured before;
    nothing is measured again.

    Example: compressbert report --baseline old/report.json runs/sst2
    """
    from compressbert.cli.outlets import leave_for_ci, read_gates
    from compressbert.errors import ConfigError
    from compressbert.pipeline.gates import exit_code, own_policy
    from compressbert.pipeline.steps.report import report as step
    from compressbert.pipeline.steps.sources import is_report
    from compressbert.report.junit import check_target
    from compressbert.report.terminal import render

    place = Path(output) if output is not None else None
    if baseline is not None and is_report(baseline):
        if len(folders) != 1:
            raise ConfigError(
                f"{baseline} is a report: a regression check holds one run against it, and {len(folders)} were given",
                hint="Compare several runs with each other without --baseline.",
            )
        if gates is not None or junit is not None:
            raise ConfigError(
                "--gates and --junit judge a report, not a change since an earlier one",
                hint="Run `report` once with --baseline and once with --gates.",
            )
        return _check(screen, folders[0], baseline, tolerance or [], place)
    if tolerance:
        raise ConfigError(
            "--tolerance goes with --baseline and an earlier report", hint="See `report --help`."
        )
    if junit is not None:
        check_target(junit)
    limits = read_gates(gates) if gates is not None else None
    found = step(folders, baseline=baseline, output=place, gates=limits)
    code = 0
    if limits is not None or junit is not None:
        uncertain = limits.on_uncertain if limits is not None else own_policy(found)
        leave_for_ci(found, junit, uncertain)
        code = exit_code(found.gates, uncertain)
    screen.show(found.model_dump(mode="json"), render(found))
    return code


def _check(screen: Screen, new: Path, old: Path, tolerance: list[str], output: Path | None) -> int:
    from compressbert.pipeline.steps.report import check_regression
    from compressbert.report.regression_views import RegressionView, render_markdown
    from compressbert.report.summary import append_summary

    found = check_regression(new, old, tolerances=_tolerances(tolerance), output=output)
    append_summary(render_markdown(found), os.environ)
    screen.show(found.model_dump(mode="json"), RegressionView(found))
    return found.exit_code


def _tolerances(given: list[str]) -> dict[Kind, float]:
    """``quality=0.005`` and the like as numbers."""
    from compressbert.errors import ConfigError
    from compressbert.report.regression import TOLERANCES

    found: dict[Kind, float] = {}
    for text in given:
        kind, _, value = text.partition("=")
        known = next((name for name in TOLERANCES if name == kind), None)
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if known is None or not 0 <= number < float("inf"):
            raise ConfigError(
                f"--tolerance {text}: expected {', '.join(TOLERANCES)}, an equals sign and a number from 0",
                hint="For example --tolerance quality=0.005.",
            )
        found[known] = number
    return found

"""`compressbert run`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from compressbert.cli.console import Screen, write_line
from compressbert.cli.options import DryRun, Junit, NeededConfig, Output, Set

Force = Annotated[
    list[str] | None,
    typer.Option("--force", metavar="STEP", help="Run this step though nothing changed. Repeatable."),
]
FromStep = Annotated[
    str | None, typer.Option("--from", metavar="STEP", help="Run this step and all after it.")
]
Only = Annotated[str | None, typer.Option("--only", metavar="STEP", help="Run this step alone.")]


def run(
    screen: Screen,
    *,
    config: NeededConfig,
    overrides: Set = None,
    output: Output = None,
    force: Force = None,
    from_step: FromStep = None,
    only: Only = None,
    junit: Junit = None,
    dry_run: DryRun = False,
) -> int:
    """Run a pipeline: its steps, their report, its gates.

    What is done and unchanged is skipped; the same command resumes a killed run. Exit code 1: a gate failed.
    The report is appended to the file that GITHUB_STEP_SUMMARY names, where that is set.

    Example: compressbert run pipeline.yaml
    """
    from compressbert.cli.inputs import checked, checked_names, read_document
    from compressbert.cli.outlets import leave_for_ci
    from compressbert.pipeline.plan import plan
    from compressbert.report.junit import check_target

    if junit is not None:
        check_target(junit)
    choice: dict[str, Any] = {"force": tuple(force or ()), "from_step": from_step, "only": only}
    document = read_document(config, overrides, {"--output": ("output", output)})
    settings = checked_names(document)
    planned = plan(settings, **choice)
    if planned.running:  # the methods will be imported anyway: check their settings' values, with their lines
        checked(document, "run")
    if dry_run:
        _show_plan(screen, planned)
        return 0
    from compressbert.pipeline.run import run as run_pipeline

    result = run_pipeline(settings, **choice)
    leave_for_ci(result.report, junit, settings.gates.on_uncertain)
    _show_result(screen, result)
    return result.exit_code


def _show_plan(screen: Screen, planned: Any) -> None:
    from compressbert.cli.show import plan_table

    steps = [
        {
            "name": step.name,
            "kind": step.kind,
            "action": step.action,
            "reason": step.reason,
            "folder": str(step.folder),
        }
        for step in planned.steps
    ]
    document = {
        "schema_version": 1,
        "dry_run": True,
        "folder": str(planned.folder),
        "baseline": planned.baseline,
        "steps": steps,
    }
    screen.show(document, plan_table(document))


def _show_result(screen: Screen, result: Any) -> None:
    from rich.text import Text

    from compressbert.report.terminal import render

    document = {
        "schema_version": 1,
        "folder": str(result.folder),
        "ran": list(result.ran),
        "skipped": list(result.skipped),
        "exit_code": result.exit_code,
        "untracked": None if result.untracked is None else str(result.untracked),
        "report": result.report.model_dump(mode="json"),
    }
    page = result.folder / "report.html"
    where = [Text(f"\nreport: {page}")] if page.is_file() else []
    screen.show(document, render(result.report), *where)
    if result.untracked is not None:
        write_line(f"error: {result.untracked}")

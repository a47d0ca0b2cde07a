"""What a command with gates leaves for a CI system besides its exit code, and gates from a file of their own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from compressbert.config.schema import Gates
    from compressbert.results.report import Report


def leave_for_ci(
    report: Report, junit: Path | None, on_uncertain: Literal["fail", "warn", "measure-more"]
) -> None:
    """Write the JUnit file that was asked for, and the summary of a GitHub Actions job where there is one.

    Raises:
        WorkError: The JUnit file cannot be written.
    """
    from compressbert.report.junit import write
    from compressbert.report.summary import append_report

    append_report(report, os.environ)
    if junit is not None:
        write(report, junit, on_uncertain=on_uncertain)


def read_gates(file: Path) -> Gates:
    """The limits in a YAML file that holds what stands under ``gates:`` in a pipeline.

    Raises:
        ConfigError: Everything that is wrong, with its line.
    """
    from compressbert.config.load import load_document, validate
    from compressbert.config.schema import Gates

    return validate(load_document(file), Gates)

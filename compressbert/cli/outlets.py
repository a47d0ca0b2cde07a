"""What a command with gates leaves for a CI system besides its exit code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from compressbert.results.record import Report


def leave_for_ci(
    report: Report, junit: Path | None, on_uncertain: Literal["fail", "warn", "measure-more"]
) -> None:
    """Write the JUnit file that was asked for, and the summary of a GitHub Actions job where there is one.

    Raises:
        WorkError: The JUnit file cannot be written.
    """
    from compressbert.report.junit import write
    from compressbert.report.summary import append_summary

    append_summary(report, os.environ)
    if junit is not None:
        write(report, junit, on_uncertain=on_uncertain)

"""The report on the page of a GitHub Actions job: appended to the file that `$GITHUB_STEP_SUMMARY` names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from compressbert.progress import warn
from compressbert.report import markdown
from compressbert.results.report import Report

VARIABLE = "GITHUB_STEP_SUMMARY"
LIMIT = 1024 * 1024  # bytes; GitHub drops a longer summary altogether


def append_report(report: Report, environment: Mapping[str, str]) -> bool:
    """Append the report to the job's summary, its settings left out; see `append_summary`."""
    return append_summary(markdown.render(report.model_copy(update={"config": {}})), environment)


def append_summary(text: str, environment: Mapping[str, str]) -> bool:
    """Append Markdown to the job's summary, if there is one; say so if that fails, and go on.

    What is longer than the page may be is cut after a whole line.
    """
    name = environment.get(VARIABLE)
    if not name:
        return False
    file = Path(name)
    try:
        taken = file.stat().st_size if file.is_file() else 0
        with file.open("a", encoding="utf-8") as summary:
            summary.write(_cut(text, LIMIT - taken))
    except OSError as error:
        warn(f"{VARIABLE}: {file} cannot be written: {error.strerror}")
        return False
    return True


def _cut(text: str, size: int) -> str:
    """``text``, or as many of its first lines as fit into ``size`` bytes with a remark."""
    content = f"\n{text}".encode()
    if len(content) <= size:
        return content.decode()
    remark = b"\n\n(The rest is in report.md.)\n"
    kept = content[: max(0, size - len(remark))].rpartition(b"\n")[0]
    return (kept + remark).decode() if kept else ""

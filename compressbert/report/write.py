"""A report's three files: `report.json`, `report.md`, `report.html`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from compressbert.report import html, markdown
from compressbert.results.report import Report
from compressbert.results.store import write_text_atomic


def write_report(report: Report, folder: Path, *, extra: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """Write a report's files into ``folder``, each whole or not at all; `report.json` last.

    Args:
        report: What to write.
        folder: Made if missing.
        extra: More text files to write beside them, name to content.

    Returns:
        The files written.
    """
    contents = {
        **(extra or {}),
        "report.md": markdown.render(report),
        "report.html": html.render(report),
        "report.json": report.model_dump_json(indent=2) + "\n",
    }
    return write_files(folder, contents)


def write_files(folder: Path, contents: Mapping[str, str]) -> tuple[Path, ...]:
    """Write texts into ``folder``, which is made if missing: name to content, in that order."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        write_text_atomic(folder / name, text)
    return tuple(folder / name for name in contents)

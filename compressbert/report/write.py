"""A report's three files: `report.json`, `report.md`, `report.html`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from compressbert.report import html, markdown
from compressbert.results.record import Report


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
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(_write(folder / name, text) for name, text in contents.items())


def _write(path: Path, text: str) -> Path:
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return path

"""Write the file map of docs/architecture.md from the modules' docstrings; `--check` only compares.

usage: python scripts/file_map.py [--check]
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- generated: scripts/file_map.py -->", "<!-- end of the map -->"


def purpose(file: Path) -> str:
    """Return the first paragraph of a module's docstring as one line."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split())


def file_map() -> str:
    """Return one line for every module, package by package."""
    lines = []
    for file in sorted((ROOT / "compressbert").rglob("*.py"), key=lambda f: (f.parent, f.name)):
        text = purpose(file)
        if text:
            lines.append(f"- `{file.relative_to(ROOT / 'compressbert').as_posix()}`: {text}")
    return "\n".join(lines)


def updated(text: str) -> str:
    """Return the page with the map as it is now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{file_map()}\n{END}{after}"


def main(check: bool) -> int:
    """Write the map, or compare it; returns the exit code."""
    text = PAGE.read_text(encoding="utf-8")
    if check:
        return int(updated(text) != text)
    PAGE.write_text(updated(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))

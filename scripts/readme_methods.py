"""Write the table of methods into README.md, between its two markers; `--check` only says whether it is up to date.

usage: python scripts/readme_methods.py [--check]
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from compressbert.methods.registry import MethodInfo, list_methods
from compressbert.report.figures import survey_columns

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- generated: scripts/readme_methods.py -->", "<!-- end -->"


def row(method: MethodInfo) -> str:
    """Return a method's line: command, name, what it does, paper, what the survey's Table 1 says of it."""
    survey = method.survey
    theirs = " / ".join(survey_columns(survey)) if survey else "–"
    summary = method.summary.split(": ", 1)[-1].rstrip(".")
    paper = re.sub(r"^Papers?: ", "", method.paper)
    return f"| `{method.family}` | `{method.name}` | {summary} | {paper} | {theirs} |"


def table() -> str:
    """Return the whole table."""
    head = "| command | method | what it does | paper | survey: size / kept / speed |\n|---|---|---|---|---|"
    return "\n".join([head, *(row(method) for method in list_methods())])


def updated(text: str) -> str:
    """Return the README with the table as it is now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main(check: bool) -> int:
    """Write the table, or compare it; returns the exit code."""
    text = README.read_text(encoding="utf-8")
    if check:
        return int(updated(text) != text)
    README.write_text(updated(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))

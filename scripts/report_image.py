"""Take a picture of a run's report for the README, in Chromium.

usage: python scripts/report_image.py RUN_FOLDER [PICTURE.png [WIDTH [HEIGHT]]]
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.report.browser import browser, find_chromium

ROOT = Path(__file__).resolve().parent.parent


def main(run: Path, picture: Path, width: int, height: int) -> None:
    """Write the top of the page, ``width`` by ``height`` pixels, as PNG."""
    program = find_chromium()
    if program is None:
        sys.exit("no Chromium is installed")
    with browser(program) as running:
        tab = running.tab()
        tab.open(run / "report.html", width=width, height=height)
        tab.screenshot(picture, whole=False)
    print(picture)


if __name__ == "__main__":
    words = sys.argv[1:]
    if not words:
        sys.exit(__doc__)
    target = Path(words[1]) if len(words) > 1 else ROOT / "docs" / "images" / "report.png"
    main(Path(words[0]), target, *(int(word) for word in (words[2:] + ["1120", "1480"][len(words[2:]) :])))

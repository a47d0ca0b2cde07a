"""The page as a reader sees it, in headless Chromium: light, dark, on a phone and printed.

Skipped where no Chromium is installed, unless COMPRESSBERT_NEED_CHROMIUM is set (as CI does): then it fails.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from compressbert.report import html
from compressbert.report.regression import regression
from compressbert.report.regression_views import render_html
from compressbert.results.report import Report
from tests.report.browser import Browser, Tab, browser, find_chromium
from tests.report.examples import example, full, row, sweep
from tests.report.test_html import HOSTILE, svgs

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("COMPRESSBERT_NEED_CHROMIUM"),
    reason="no Chromium is installed: `apt-get install chromium`, or your system's way",
)

LONG = "a-name-nobody-would-choose-and-somebody-will"
REPORTS = {
    "one": example(rows=(row("finetune"),)),
    "chain": full(),
    "twelve": sweep(12),
    "sweep": sweep(200),
    "long names": example(
        rows=tuple(
            row(f"{number}-{LONG}-{LONG}", parent=f"{number - 1}-{LONG}-{LONG}" if number else None)
            for number in range(4)
        ),
        baseline=f"0-{LONG}-{LONG}",
    ),
}
VIEWS = {"light": (1200, False), "dark": (1200, True), "tablet": (820, False), "phone": (390, True)}

# What is wrong with the page, as a list of sentences. Runs in the browser.
LOOK = """(() => {
  const wrong = [];
  const shown = element => element.getClientRects().length > 0;
  const paper = getComputedStyle(document.body).backgroundColor;
  const light = color => {
    const [r, g, b] = color.match(/[\\d.]+/g).map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  if (document.documentElement.scrollWidth > document.documentElement.clientWidth)
    wrong.push(`the page is ${document.documentElement.scrollWidth} wide`);
  for (const svg of document.querySelectorAll('svg.plot')) {
    if (!shown(svg)) continue;
    const name = svg.getAttribute('aria-labelledby').split(' ')[0];
    const frame = svg.getBoundingClientRect();
    const inside = box => box.left > frame.left - 2 && box.right < frame.right + 2
      && box.top > frame.top - 2 && box.bottom < frame.bottom + 2;
    const marks = [...svg.querySelectorAll('.mark')];
    const visible = marks.filter(mark => {
      const box = mark.getBoundingClientRect(), style = getComputedStyle(mark);
      const color = style.fill === 'none' ? style.stroke : style.fill;
      return Math.max(box.width, box.height) > 0.3 && inside(box) && /^rgb/.test(color) && color !== paper;
    });
    if (marks.length === 0 || visible.length < marks.length)
      wrong.push(`${name}: ${visible.length} of ${marks.length} marks can be seen`);
    const texts = [...svg.querySelectorAll('text')].filter(text => text.textContent);
    const boxes = texts.map(text => text.getBoundingClientRect());
    texts.forEach((text, i) => {
      if (!inside(boxes[i])) wrong.push(`${name}: "${text.textContent}" leaves the plot`);
      if (parseFloat(getComputedStyle(text).fontSize) * frame.width / svg.viewBox.baseVal.width < 9)
        wrong.push(`${name}: "${text.textContent}" is too small`);
      for (let j = i + 1; j < texts.length; j++) {
        const a = boxes[i], b = boxes[j];
        if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
            && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3)
          wrong.push(`${name}: "${text.textContent}" lies on "${texts[j].textContent}"`);
      }
    });
  }
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const poor = new Set();
  while (words.nextNode()) {
    const element = words.currentNode.parentElement;
    if (!words.currentNode.data.trim() || !shown(element) || element.closest('title, desc, pre')) continue;
    const style = getComputedStyle(element);
    const color = element.closest('svg') ? style.fill : style.color;
    const kind = element.className.baseVal ?? element.className;
    if (contrast(color, paper) < 4.5) poor.add(`${element.tagName}.${kind} ${color}`);
  }
  for (const one of poor) wrong.push(`too little contrast: ${one}`);
  return wrong;
})()"""


@pytest.fixture(scope="module")
def running() -> Iterator[Browser]:
    assert CHROMIUM is not None, "COMPRESSBERT_NEED_CHROMIUM is set, but no Chromium is installed"
    with browser(CHROMIUM) as started:
        yield started


@pytest.fixture
def tab(running: Browser) -> Tab:
    return running.tab()


def written(report: Report, place: Path) -> Path:
    file = place / "report.html"
    file.write_text(html.render(report), encoding="utf-8")
    return file


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", REPORTS)
def test_page_is_clean_and_every_plot_has_marks(tab: Tab, tmp_path: Path, name: str, view: str) -> None:
    width, dark = VIEWS[view]
    tab.open(written(REPORTS[name], tmp_path), width=width, dark=dark)
    assert tab.evaluate(LOOK) == []
    assert tab.problems == []
    visible = tab.evaluate(
        "[...document.querySelectorAll('svg.plot')].filter(s => s.getClientRects().length).length"
    )
    assert (
        visible == len(svgs(html.render(REPORTS[name]))) - 1
    )  # one of the two forms of quality against latency


@pytest.mark.parametrize("view", VIEWS)
def test_the_regression_page_is_clean(tab: Tab, tmp_path: Path, view: str) -> None:
    width, dark = VIEWS[view]
    file = tmp_path / "regression.html"
    file.write_text(render_html(regression(full(), sweep(12))), encoding="utf-8")
    tab.open(file, width=width, dark=dark)
    assert tab.evaluate(LOOK) == []
    assert tab.problems == []


def test_colours_follow_the_readers_scheme(tab: Tab, tmp_path: Path) -> None:
    file = written(full(), tmp_path)
    ground = "getComputedStyle(document.body).backgroundColor"
    tab.open(file, width=1200)
    light = tab.evaluate(ground)
    tab.open(file, width=1200, dark=True)
    assert light != tab.evaluate(ground)


def test_the_screenshot_is_not_blank(tab: Tab, tmp_path: Path) -> None:
    tab.open(written(full(), tmp_path), width=1200)
    tab.screenshot(tmp_path / "full.png")
    tab.evaluate("document.querySelectorAll('main *').forEach(e => e.style.visibility = 'hidden')")
    tab.screenshot(tmp_path / "blank.png")
    assert (tmp_path / "full.png").stat().st_size > 10 * (tmp_path / "blank.png").stat().st_size


def test_prints_on_white_without_the_navigation(tab: Tab, tmp_path: Path) -> None:
    tab.open(written(full(), tmp_path), width=1200, dark=True)
    tab.call("Emulation.setEmulatedMedia", media="print")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.evaluate("document.querySelector('nav').getClientRects().length") == 0
    tab.pdf(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF-")


def test_a_hostile_row_runs_nothing(tab: Tab, tmp_path: Path) -> None:
    base = full()
    texts = tuple(flip.model_copy(update={"text": HOSTILE}) for flip in base.rows[-1].worst_flips)
    hostile = base.rows[-1].model_copy(update={"name": HOSTILE, "worst_flips": texts})
    tab.open(written(base.model_copy(update={"rows": (*base.rows[:-1], hostile)}), tmp_path), width=1200)
    assert tab.problems == []
    assert tab.evaluate("document.querySelectorAll('script, img, [onerror]').length") == 0
    assert tab.evaluate("document.body.innerText").count(HOSTILE) >= 20

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

import pytest

from compressbert.report import html
from compressbert.results.record import Report, ReportRow
from tests.report.examples import ENVIRONMENT, against_baseline, example, row

VOID = {"meta", "link", "br", "img", "hr", "input"}
HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>&$x_1$'


class Page(HTMLParser):
    """A page's tags, attributes and text; checks on the way that every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.parts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.parts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.parts))

    def values(self, attribute: str) -> list[str]:
        return [value for _, name, value in self.attributes if name == attribute]


@pytest.fixture(scope="module")
def text() -> str:
    return html.render(example())


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_everything_is_on_the_page(page: Page) -> None:
    for text in (
        "SST-2 chain",
        "Against finetune, export is 4.97× smaller, 8.12× faster [7.88, 8.36]",
        "87.7 [85.7, 89.7]",
        "98.5 [97.5, 99.5]",
        "0.042",
        "61",
        "22.70",
        "18.3",
        "0.500",
        "cannot tell",
        "why a",
        "A CPU, 2 cores",
        "avx2, vnni",
        "torch 2.13.0",
        "seed: 7",
        "Beside the survey",
        "1.5×",
        "90 %",
    ):
        assert text in page.text, text


def test_three_plots_with_marks(page: Page) -> None:
    assert page.tags["svg"] == 3
    assert page.tags["use"] + page.tags["path"] > 40
    for text in (
        "median latency, ms (log scale)",
        "megabytes on disk",
        "times the baseline's speed",
        "embeddings",
    ):
        assert text in page.text
    assert page.tags["image"] == 0  # no raster inside


def test_plots_take_their_colours_from_the_page(text: str) -> None:
    assert "currentColor" in text
    assert "var(--series-1)" in text
    assert not re.search(r"#0101[0-9a-f]{2}", text)  # every placeholder was replaced


def test_verdicts_have_colour_and_words(page: Page) -> None:
    classes = " ".join(page.values("class"))
    for verdict in ("pass", "fail", "cannot-tell"):
        assert f"verdict {verdict}" in classes


def test_heat_map_shades_by_what_survived(page: Page) -> None:
    shares = [value for value in page.values("style") if value.startswith("--share")]
    assert shares.count("--share:0.500") == 3  # six of twelve heads, in three rows
    assert "--share:0.456" in shares  # 700 of 1536 neurons


def test_page_is_self_contained(page: Page, text: str) -> None:
    assert page.tags["script"] == 0
    assert page.tags["img"] == page.tags["iframe"] == page.tags["object"] == 0
    for attribute in ("src", "href", "xlink:href", "srcset"):
        assert all(value.startswith(("#", "data:,")) for value in page.values(attribute))
    assert not re.search(r"(https?:)?//\w", text)  # no address at all, in CSS neither
    assert "@import" not in text


def test_ids_are_unique_and_references_resolve(page: Page) -> None:
    ids = Counter(page.values("id"))
    assert [name for name, count in ids.items() if count > 1] == []
    references = {value[1:] for value in page.values("href") if value.startswith("#")}
    references |= {name for value in page.values("clip-path") for name in re.findall(r"#([\w-]+)", value)}
    assert len(references) > 3
    assert references <= set(ids)


def test_light_and_dark_phone_and_print(text: str) -> None:
    for rule in (
        "prefers-color-scheme: dark",
        "max-width: 40rem",
        "@media print",
        'name="viewport"',
        "overflow-x: auto",
    ):
        assert rule in text


def test_same_report_same_bytes(text: str) -> None:
    assert html.render(example()) == text


def test_hostile_text_stays_text() -> None:
    rows = (
        row(
            HOSTILE,
            primary_metric=HOSTILE,
            quality={HOSTILE: row("x").quality["accuracy"]},
            bytes_by_component={HOSTILE: 5},
        ),
        row(
            f"b{HOSTILE}",
            method=HOSTILE,
            survey={"compression": HOSTILE},
            **against_baseline(2, speedup_by_cell={HOSTILE: row("x").quality["accuracy"]}),
        ),
    )
    environment = ENVIRONMENT.model_copy(update={"cpu": HOSTILE, "versions": {HOSTILE: HOSTILE}})
    gates = tuple(gate.model_copy(update={"name": HOSTILE, "reason": HOSTILE}) for gate in example().gates)
    report = example(
        title=HOSTILE,
        baseline=HOSTILE,
        rows=rows,
        environment=environment,
        gates=gates,
        config={"k": HOSTILE},
    )
    page = Page(html.render(report))
    assert page.tags["script"] == page.tags["img"] == 0
    assert page.text.count("<script>alert(1)</script>") >= 8
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]


BARE = ReportRow(name="only", step="evaluate")


@pytest.mark.parametrize(
    ("report", "plots"),
    [
        (example(rows=(row("finetune"),)), 2),
        (example(rows=(row("finetune"), row("export", latency=()))), 2),
        (example(rows=(row("finetune", latency=()), row("export", latency=()))), 1),
        (example(rows=(row("finetune"), row("export", p50=4.0))), 2),
        (
            example(
                rows=(
                    row("finetune"),
                    row("export", bytes_by_component={}, bytes_on_disk=None, compression=None),
                )
            ),
            2,
        ),
        (example(rows=(BARE,), baseline="only", gates=(), config={}), 0),
        (
            example(
                rows=tuple(row(f"step {n}", **against_baseline(n + 1.0)) for n in range(30)),
                baseline="step 0",
            ),
            3,
        ),
    ],
    ids=["single", "no-latency", "none-timed", "no-comparison", "no-size", "nothing", "many"],
)
def test_what_was_not_measured_is_a_dash_and_not_an_error(report: Report, plots: int) -> None:
    page = Page(html.render(report))
    assert page.tags["svg"] == plots
    assert all(entry.name in page.text for entry in report.rows)

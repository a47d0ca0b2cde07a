from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

import pytest

from compressbert.report import html
from compressbert.results.report import Report, ReportRow
from tests.report.examples import ENVIRONMENT, against_baseline, example, flip, full, part, row, sweep

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
        "GLUE. Theirs: 97 %.",
        "1.5×",
        "90 %",
    ):
        assert text in page.text, text


def test_everything_measured_has_its_plot_with_marks() -> None:
    """Five steps with everything measured: each plot is there and shows as many marks as there are figures."""
    text = html.render(full())
    marks = {name: svg.count('class="mark ') for name, svg in svgs(text).items()}
    assert marks == {
        "tradeoff-344": 5,
        "tradeoff-720": 5,
        "sizes-344": sum(size > 0 for row in full().rows for size in row.bytes_by_component.values()),
        "chain-quality-344": 5 + 4,  # a dot a row, and a bar where something changed
        "chain-latency-344": 5 + 4,
        "chain-size-344": 5 + 4,
        "slices-344": 6,
        "speedups-344": 4 * 3,
        "training-0-344": 3,
        "training-1-344": 3,
        "training-2-344": 2 * 3,  # two stages
    }


def test_what_int8_computes_elsewhere_is_said() -> None:
    page = Page(html.render(full()))
    assert "1,204 of 5,308,416 pairs of weights" in page.text
    assert "86.1 [83.8, 88.4] 87.8 [85.8, 89.8]" in page.text
    assert "On CPUs without VNNI" not in Page(html.render(example())).text


def svgs(text: str) -> dict[str, str]:
    found = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    named = {re.findall(r'aria-labelledby="(\S+)-title', svg)[0]: svg for svg in found}
    assert len(named) == len(found)
    return named


def test_plots_say_what_they_show_without_being_seen() -> None:
    for name, svg in svgs(html.render(full())).items():
        title, description = (
            rf'<{tag} id="{name}-{short}">[^<]+</{tag}>'
            for tag, short in (("title", "title"), ("desc", "desc"))
        )
        assert re.match(rf'<svg class="plot" role="img" [^>]*>{title}{description}', svg), name


def test_plots_take_their_colours_and_font_from_the_page(text: str) -> None:
    for svg in svgs(text).values():
        assert not re.search(r'#[0-9a-f]{3}|rgb|(fill|stroke|style|font-family)="', svg)
    assert "--series-1" in text


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
    assert any(value.startswith("default-src 'none';") for value in page.values("content"))
    assert page.tags["img"] == page.tags["iframe"] == page.tags["object"] == 0
    for attribute in ("src", "href", "xlink:href", "srcset"):
        assert all(value.startswith(("#", "data:,")) for value in page.values(attribute))
    assert not re.search(r"(https?:)?//\w", text)  # no address at all, in CSS neither
    assert "@import" not in text


def test_ids_are_unique_and_references_resolve() -> None:
    page = Page(html.render(full()))
    ids = Counter(page.values("id"))
    assert [name for name, count in ids.items() if count > 1] == []
    references = {value[1:] for value in page.values("href") if value.startswith("#")}
    references |= {name for value in page.values("aria-labelledby") for name in value.split()}
    assert len(references) > 20
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
    """Every text of a report, put on the page: none becomes markup, all of them can be read."""
    flips = (
        flip(1, HOSTILE).model_copy(update={"text_pair": HOSTILE, "label": HOSTILE, "baseline": HOSTILE}),
    )
    rows = (
        row(HOSTILE, primary_metric=HOSTILE, quality={HOSTILE: row("x").quality["accuracy"]},
            bytes_by_component={HOSTILE: 5},
            training=({"step": 1, "loss": 1, HOSTILE: 1}, {"step": 2, "loss": 1, "b": 2})),
        row(f"b{HOSTILE}", method=HOSTILE, parent=HOSTILE, survey={"compression": HOSTILE}, worst_flips=flips,
            slices=(part(HOSTILE, HOSTILE, 0.1, 10, worse=True),),
            **against_baseline(2, speedup_by_cell={HOSTILE: row("x").quality["accuracy"]})),
    )  # fmt: skip
    environment = ENVIRONMENT.model_copy(
        update={"cpu": HOSTILE, "governor": HOSTILE, "versions": {HOSTILE: HOSTILE}}
    )
    gates = tuple(gate.model_copy(update={"name": HOSTILE, "reason": HOSTILE}) for gate in example().gates)
    report = example(
        title=HOSTILE, baseline=HOSTILE, rows=rows, environment=environment, gates=gates, notes=(HOSTILE,),
        config={"k": HOSTILE},
    )  # fmt: skip
    page = Page(html.render(report))
    assert page.tags["script"] == page.tags["img"] == 0
    assert page.text.count(HOSTILE) >= 30
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]


def test_two_hundred_rows_stay_small_and_name_only_what_stands_out() -> None:
    text = html.render(sweep(200))
    assert len(text.encode()) < 1_000_000
    page = Page(text)
    assert page.text.count("keep-198") >= 5
    drawn = svgs(text)
    assert drawn["tradeoff-720"].count('class="mark ') == 200
    assert 2 <= drawn["tradeoff-720"].count("<text") <= 30
    assert drawn["sizes-344"].count('class="mark ') <= 16 * 4
    assert page.tags["details"] == 2  # the last row's flips, the settings


BARE = ReportRow(name="only", step="evaluate")


@pytest.mark.parametrize(
    ("report", "plots"),  # quality against latency is there twice: broad and slim
    [
        (example(rows=(row("finetune"),)), 3),
        (example(rows=(row("finetune"), row("export", latency=()))), 3),
        (example(rows=(row("finetune", latency=()), row("export", latency=()))), 1),
        (example(rows=(row("finetune"), row("export", p50=4.0))), 3),
        (
            example(
                rows=(
                    row("finetune"),
                    row("export", bytes_by_component={}, bytes_on_disk=None, compression=None),
                )
            ),
            3,
        ),
        (example(rows=(BARE,), baseline="only", gates=(), config={}), 0),
        (
            example(
                rows=tuple(row(f"step {n}", **against_baseline(n + 1.0)) for n in range(30)),
                baseline="step 0",
            ),
            4,
        ),
    ],
    ids=["single", "no-latency", "none-timed", "no-comparison", "no-size", "nothing", "many"],
)
def test_what_was_not_measured_is_a_dash_and_not_an_error(report: Report, plots: int) -> None:
    page = Page(html.render(report))
    assert page.tags["svg"] == plots
    assert all(entry.name in page.text for entry in report.rows)

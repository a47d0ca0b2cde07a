from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from compressbert.report import figures, markdown, terminal
from compressbert.report.write import write_report
from compressbert.results.record import Interval
from compressbert.results.report import Report
from tests.report.examples import against_baseline, around, example, full, row


def test_markdown_has_every_section() -> None:
    text = markdown.render(example())
    assert text.startswith("# SST-2 chain\n\nAgainst finetune, export is 4.97× smaller")
    for heading in ("## Speed-up by shape", "## The survey's figures", "## Gates", "## Environment"):
        assert heading in text
    assert "| **distill** (distilbert) | 88.0 [86.0, 90.0] | 1.30× | 98.5 [97.5, 99.5] |" in text
    assert "| **min\\_speedup** | ✓ pass | why b |" in text
    assert '"seed": 7' in text
    assert text.endswith("\n")


def test_markdown_says_what_the_page_says() -> None:
    text = markdown.render(full())
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## The survey's figures", "## Step by step", "## Quality", "## On CPUs without VNNI", "## Slices",
        "## Speed-up by shape", "## Latency", "## Size", "## Gates", "## Environment",
    ]  # fmt: skip
    for line in (
        "Whether export is no worse than finetune by more than 1 point cannot be told from these rows.",
        "| **quantize** | +0.2 | 3.21× | 3.79× |",
        "| length 33-64 | 129 | 7.8 points [2.5, 13.1] | ✗ more than the rest |",
        "<summary>Predictions that changed: 20 of 61, the surest first</summary>",
        "- rounds: 24, interleaved, in 61 s",
        "- machine: quiet",
    ):
        assert line in text, line


def test_terminal_names_the_slice_that_lost_most() -> None:
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    terminal.show(full(), console)
    console.file.close()
    text = console.export_text()
    assert "length 33-64 lost 7.8 points [2.5, 13.1] on 129 rows, more than the rest (p < 0.001)." in text
    assert "label=positive" not in text


def test_markdown_tables_are_rectangular() -> None:
    hostile = "a|b\n<script>`x`*"
    report = example(
        title=hostile,
        rows=(row(hostile), row("export", method=hostile, **against_baseline(2))),
        baseline=hostile,
    )
    text = markdown.render(report)
    widths: dict[int, set[int]] = {}
    block = 0
    for line in text.splitlines():
        block += not line.startswith("|")
        if line.startswith("|"):
            widths.setdefault(block, set()).add(len(re.findall(r"(?<!\\)\|", line)))
    assert widths
    assert all(len(counts) == 1 for counts in widths.values())
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_fence_outlasts_backticks_in_the_settings() -> None:
    text = markdown.render(example(config={"k": "````"}))
    assert "`````json" in text


@pytest.mark.parametrize("width", [80, 160])
def test_terminal_table_fits_and_is_complete(width: int) -> None:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    terminal.show(example(), console)
    console.file.close()
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    for part in (
        "SST-2 chain",
        "finetune",
        "baseline",
        "distilbert",
        "88.0",
        "[86.0, 90.0]",
        "8.12×",
        "[7.88, 8.36]",
        "18.3",
        "0.500",
    ):
        assert part in text, part
    for part in ("✓ pass", "✗ fail", "? cannot tell", "why c", "4.97× smaller"):
        assert part in text, part


def test_terminal_shows_markup_as_text() -> None:
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    terminal.show(
        example(rows=(row("[red]x[/red]"),), title="[bold]t[/bold]", baseline="[red]x[/red]"), console
    )
    console.file.close()
    text = console.export_text()
    assert "[red]x[/red]" in text
    assert "[bold]t[/bold]" in text


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (
            example(rows=(row("finetune"),)),
            "finetune is the baseline; there is nothing to compare it with yet. Its accuracy is 89.0 [87.0, 91.0].",
        ),
        (example(rows=(row("finetune"), row("b", size=182_000_000))), "Against finetune, b is 2.00× larger."),
        (
            example(rows=(row("finetune"), row("b", compression=None, speedup=around(0.5)))),
            "Against finetune, b is 2.00× slower [0.48, 0.52].",
        ),
        (
            example(rows=(row("finetune"), row("b", compression=None, retained=around(0.9)))),
            "Against finetune, b keeps 90.0 % [87.3, 92.7] of the accuracy.",
        ),
        (example(rows=(row("finetune"), row("b", compression=None))), "b was not measured against finetune."),
    ],
)
def test_summary(report: Report, expected: str) -> None:
    assert figures.summary(report) == expected


def test_figures_keep_the_digits_that_mean_something() -> None:
    assert [figures.milliseconds(x) for x in (0.1234, 1.234, 12.34, 123.4, None)] == [
        "0.123",
        "1.23",
        "12.3",
        "123",
        "–",
    ]
    assert [figures.times(x) for x in (4.953, 12.34, None)] == ["4.95×", "12.3×", "–"]
    assert [figures.megabytes(x) for x in (18_340_000, 1_234_567, None)] == ["18.3", "1.23", "–"]
    assert [figures.p_value(x) for x in (0.0421, 0.00009, None)] == ["0.042", "< 0.001", "–"]
    assert figures.metric_text(Interval(value=0.5, low=0.4, high=0.6), "accuracy") == "50.0 [40.0, 60.0]"
    assert (
        figures.metric_text(Interval(value=0.5, low=0.4, high=0.6), "mean_squared_error")
        == "0.500 [0.400, 0.600]"
    )
    assert figures.metric_text(Interval(value=8.5, low=8.4, high=8.6), "perplexity") == "8.500 [8.400, 8.600]"
    assert figures.cell_label("8x128") == "8 × 128"


def test_report_is_written_whole_and_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    files = write_report(example(), folder, extra={"flips.jsonl": "{}\n"})
    assert [file.name for file in files] == ["flips.jsonl", "report.md", "report.html", "report.json"]
    assert sorted(file.name for file in folder.iterdir()) == sorted(file.name for file in files)
    assert Report.model_validate_json((folder / "report.json").read_text()) == example()
    assert json.loads((folder / "report.json").read_text())["schema_version"] == 1
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")

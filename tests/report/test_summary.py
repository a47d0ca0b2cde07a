"""The summary of a GitHub Actions job."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressbert.report import summary
from compressbert.report.markdown import render
from tests.report.examples import example


def test_nothing_is_written_outside_of_a_job(tmp_path: Path) -> None:
    assert not summary.append_report(example(), {})
    assert not summary.append_report(example(), {summary.VARIABLE: ""})


def test_the_report_is_appended_without_its_settings(tmp_path: Path) -> None:
    file = tmp_path / "summary.md"
    file.write_text("# Build\n")
    for _ in range(2):
        assert summary.append_report(example(), {summary.VARIABLE: str(file)})
    report = render(example(config={}))
    assert file.read_text() == f"# Build\n\n{report}\n{report}"
    assert "## Gates" in report


def test_a_report_longer_than_the_page_is_cut_after_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "summary.md"
    file.write_text("before\n")
    monkeypatch.setattr(summary, "LIMIT", 200)
    assert summary.append_report(example(), {summary.VARIABLE: str(file)})
    text = file.read_text()
    assert len(text.encode()) <= 200
    assert text.endswith("\n\n(The rest is in report.md.)\n")
    assert text.startswith("before\n\n# SST-2 chain\n")
    assert summary.append_report(example(), {summary.VARIABLE: str(file)})
    assert file.read_text() == text  # full


def test_a_summary_that_cannot_be_written_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(summary, "warn", said.append)
    assert not summary.append_report(example(), {summary.VARIABLE: str(tmp_path)})
    assert len(said) == 1
    assert "cannot be written" in said[0]

"""The JUnit file: what CI systems read of it, and texts that XML cannot hold."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from compressbert.errors import ConfigError, WorkError
from compressbert.report.junit import check_target, render, write
from compressbert.results.report import ReportGate
from tests.report.examples import example


def gate(name: str, verdict: str, reason: str) -> ReportGate:
    return ReportGate.model_validate(
        {
            "name": name,
            "limit": 1,
            "value": None,
            "low": None,
            "high": None,
            "verdict": verdict,
            "reason": reason,
        }
    )


def test_the_whole_document() -> None:
    gates = (
        gate("min_speedup", "pass", "8.12 [7.88, 8.36], at least 4 asked"),
        gate("max_flips", "fail", "21, at most 20 asked"),
        gate("min_retained", "cannot-tell", "the interval holds the limit"),
    )
    assert (
        render(example(gates=gates, title="SST-2"), on_uncertain="warn")
        == """\
<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="compressbert" tests="3" failures="1" errors="0" skipped="1" time="0">
  <testsuite name="SST-2" tests="3" failures="1" errors="0" skipped="1" time="0">
    <testcase classname="SST-2.gates" name="min_speedup" time="0">
      <system-out>8.12 [7.88, 8.36], at least 4 asked</system-out>
    </testcase>
    <testcase classname="SST-2.gates" name="max_flips" time="0">
      <failure message="21, at most 20 asked" type="fail">max_flips: 21, at most 20 asked</failure>
    </testcase>
    <testcase classname="SST-2.gates" name="min_retained" time="0">
      <skipped message="cannot tell: the interval holds the limit" />
    </testcase>
  </testsuite>
</testsuites>
"""
    )


def test_a_gate_that_cannot_tell_fails_where_the_run_does() -> None:
    gates = (gate("min_retained", "cannot-tell", "why"),)
    root = ElementTree.fromstring(render(example(gates=gates), on_uncertain="fail"))
    assert (root.get("failures"), root.get("skipped")) == ("1", "0")
    failure = root.find("testsuite/testcase/failure")
    assert failure is not None
    assert failure.get("type") == "cannot-tell"


def test_no_gates_is_a_document_without_cases() -> None:
    root = ElementTree.fromstring(render(example(gates=()), on_uncertain="warn"))
    assert root.get("tests") == "0"
    assert root.find("testsuite/testcase") is None


def test_any_text_survives() -> None:
    title = "<script>\"&' ]]> \x00\x1b \ud83d end"
    gates = (gate("slices.a\x07<b>.max_quality_drop", "fail", title),)
    root = ElementTree.fromstring(render(example(gates=gates, title=title), on_uncertain="warn"))
    failure = root.find("testsuite/testcase/failure")
    assert failure is not None
    assert failure.get("message") == "<script>\"&' ]]> \ufffd\ufffd \ufffd end"


def test_written_whole_into_a_new_folder(tmp_path: Path) -> None:
    file = tmp_path / "new" / "gates.xml"
    check_target(file)
    write(example(), file, on_uncertain="warn")
    assert file.read_text() == render(example(), on_uncertain="warn")
    assert [path.name for path in file.parent.iterdir()] == ["gates.xml"]


def test_where_nothing_can_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="it is a folder"):
        check_target(tmp_path)
    with pytest.raises(ConfigError, match="is not a folder"):
        check_target(tmp_path / "file" / "gates.xml")
    with pytest.raises(WorkError, match="cannot be written"):
        write(example(), tmp_path / "file" / "gates.xml", on_uncertain="warn")

"""`report --gates`: limits on figures that were measured before, without a pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from compressbert.report.write import write_report
from tests.cli.support import invoke
from tests.report.examples import example


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    write_report(example(config={"gates": {"on_uncertain": "fail"}}), tmp_path / "run")
    return tmp_path / "run"


def write_gates(place: Path, text: str) -> Path:
    file = place / "gates.yaml"
    file.write_text(text)
    return file


def test_limits_of_a_file_decide(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    before = (run_folder / "report.json").read_bytes()
    passing = write_gates(tmp_path, "min_speedup: 7\nmax_flips: 61\n")
    result = invoke("report", run_folder, "--gates", passing, "--junit", tmp_path / "gates.xml", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert [(gate["name"], gate["verdict"]) for gate in document["gates"]] == [
        ("min_speedup", "pass"),
        ("max_flips", "pass"),
    ]
    assert document["config"]["gates"]["max_flips"] == 61
    root = ElementTree.parse(tmp_path / "gates.xml").getroot()
    assert (root.get("tests"), root.get("failures")) == ("2", "0")
    assert "## Gates" in (tmp_path / "summary.md").read_text()
    failing = write_gates(tmp_path, "min_speedup: 9\n")
    assert invoke("report", run_folder, "--gates", failing, "-o", tmp_path / "judged").exit_code == 1
    judged = json.loads((tmp_path / "judged" / "report.json").read_text())
    assert [gate["verdict"] for gate in judged["gates"]] == ["fail"]
    assert (run_folder / "report.json").read_bytes() == before


@pytest.mark.parametrize(("policy", "code"), [("warn", 0), ("fail", 1), ("measure-more", 0)])
def test_what_cannot_be_told_follows_the_file(
    run_folder: Path, tmp_path: Path, policy: str, code: int
) -> None:
    file = write_gates(tmp_path, f"max_quality_drop: 0.01\non_uncertain: {policy}\n")
    result = invoke("report", run_folder, "--gates", file)
    assert result.exit_code == code
    assert "? cannot tell" in result.stdout


def test_junit_alone_is_of_the_runs_own_gates(run_folder: Path, tmp_path: Path) -> None:
    """max_quality_drop cannot be told there, and the run's own settings let that fail."""
    result = invoke("report", run_folder, "--junit", tmp_path / "gates.xml")
    assert result.exit_code == 1
    root = ElementTree.parse(tmp_path / "gates.xml").getroot()
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("3", "2", "0")
    assert invoke("report", run_folder).exit_code == 0  # showing a report judges nothing


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("min_speed: 4\n", "gates.yaml:1:1: min_speed: unknown key (did you mean 'min_speedup'?)"),
        ("min_speedup: fast\n", "gates.yaml:1:1: min_speedup: should be a valid number"),
        ("slices:\n  label=a: {max_drop: 1}\n", "gates.yaml:2:13: slices.label=a.max_drop: unknown key"),
        ("on_uncertain: maybe\n", "on_uncertain: should be 'fail', 'warn' or 'measure-more', found 'maybe'"),
    ],
)
def test_a_wrong_file_is_told_with_its_lines(
    run_folder: Path, tmp_path: Path, text: str, message: str
) -> None:
    result = invoke("report", run_folder, "--gates", write_gates(tmp_path, text))
    assert result.exit_code == 2
    assert message in result.stderr


def test_gates_do_not_go_with_a_regression_check(run_folder: Path, tmp_path: Path) -> None:
    file = write_gates(tmp_path, "min_speedup: 4\n")
    old = run_folder / "report.json"
    result = invoke("report", run_folder, "--baseline", old, "--gates", file)
    assert result.exit_code == 2
    assert "--gates and --junit judge a report" in result.stderr

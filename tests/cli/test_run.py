"""`run` and `report`: the plan, the result, the exit code."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from compressbert.errors import WorkError
from compressbert.results.environment import environment
from compressbert.results.report import Report, ReportGate, ReportRow
from tests.cli.support import invoke, stand_in
from tests.tiny import save_tiny, toy_rows, write_rows

PIPELINE = """\
model: {{path: {model}}}
data: {{train: {data}, validation: {data}}}
steps:
  - prune: {{method: {{name: michel, keep: 0.5}}}}
  - export:
output: {output}
"""


def report() -> Report:
    gate = ReportGate(
        name="min_speedup", limit=4, value=3, low=2.9, high=3.1, verdict="fail", reason="3 of 4"
    )
    rows = (
        ReportRow(name="input", step="input"),
        ReportRow(name="prune", step="prune", bytes_on_disk=4_200_000),
    )
    return Report(title="[run]", baseline="input", rows=rows, gates=(gate,), environment=environment())


@dataclass
class Ran:
    exit_code: int
    folder: Path
    report: Report = field(default_factory=report)
    ran: tuple[str, ...] = ("prune",)
    skipped: tuple[str, ...] = ("export",)
    untracked: WorkError | None = None


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    data = write_rows(tmp_path / "rows.jsonl", toy_rows(8))
    model = save_tiny(tmp_path / "model")
    file = tmp_path / "pipeline.yaml"
    file.write_text(PIPELINE.format(model=model, data=data, output=tmp_path / "run"))
    return file


def test_dry_run_shows_the_plan_and_touches_nothing(pipeline: Path) -> None:
    before = sorted(pipeline.parent.rglob("*"))
    result = invoke("run", pipeline, "--dry-run")
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[:3] for row in rows[1:]] == [["prune", "prune", "run"], ["export", "export", "run"]]
    document = json.loads(invoke("run", pipeline, "--dry-run", "--json").stdout)
    assert [step["name"] for step in document["steps"]] == ["prune", "export"]
    assert document["baseline"] == "input"
    assert sorted(pipeline.parent.rglob("*")) == before


@pytest.mark.parametrize("code", [0, 1])
def test_the_report_and_the_gates_code(monkeypatch: pytest.MonkeyPatch, pipeline: Path, code: int) -> None:
    calls: list[dict[str, Any]] = []

    def run(config: Any, **choice: Any) -> Ran:
        calls.append(choice)
        return Ran(code, pipeline.parent / "run")

    stand_in(monkeypatch, "compressbert.pipeline.run", run=run)
    result = invoke("run", pipeline, "--force", "prune", "--from", "export")
    assert result.exit_code == code
    assert "[run]" in result.stdout
    assert "min_speedup" in result.stdout
    assert calls == [{"force": ("prune",), "from_step": "export", "only": None}]
    document = json.loads(invoke("run", pipeline, "--json").stdout)
    assert (document["exit_code"], document["ran"], document["skipped"]) == (code, ["prune"], ["export"])
    assert document["report"]["rows"][1]["bytes_on_disk"] == 4_200_000


def test_gates_are_left_for_the_ci_system(monkeypatch: pytest.MonkeyPatch, pipeline: Path) -> None:
    place = pipeline.parent
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(place / "summary.md"))
    stand_in(monkeypatch, "compressbert.pipeline.run", run=lambda config, **choice: Ran(1, place / "run"))
    result = invoke("run", pipeline, "--junit", place / "out" / "gates.xml")
    assert result.exit_code == 1
    case = ElementTree.parse(place / "out" / "gates.xml").find("testsuite/testcase")
    assert case is not None
    assert (case.get("name"), case.find("failure") is not None) == ("min_speedup", True)
    assert (place / "summary.md").read_text().count("## Gates") == 1


def test_a_run_that_was_not_logged_is_shown_all_the_same(
    monkeypatch: pytest.MonkeyPatch, pipeline: Path
) -> None:
    lost = WorkError("tracking: the server is down", hint="Again later.")
    ran = Ran(4, pipeline.parent / "run", untracked=lost)
    stand_in(monkeypatch, "compressbert.pipeline.run", run=lambda config, **choice: ran)
    result = invoke("run", pipeline, "--quiet")
    assert result.exit_code == 4
    assert "[run]" in result.stdout
    assert "error: tracking: the server is down\nAgain later." in result.stderr
    result = invoke("run", pipeline, "--json")
    assert json.loads(result.stdout)["untracked"] == "tracking: the server is down\nAgain later."


def test_a_junit_file_that_cannot_be_written_stops_before_any_work(pipeline: Path) -> None:
    result = invoke("run", pipeline, "--junit", pipeline.parent)
    assert result.exit_code == 2
    assert "it is a folder" in result.stderr
    assert not (pipeline.parent / "run").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            ("--set", "steps.0.prune.method.kep=1"),
            "steps.0.prune.method.kep: unknown key (did you mean 'keep'?)",
        ),
        (
            ("--set", "steps.0.prune.method.keep=2"),
            "steps.0.prune.method.keep: should be less than or equal to 1",
        ),
        (("--only", "nothing"), "no step is named 'nothing'"),
    ],
)
def test_what_is_wrong_is_said_before_the_first_step(
    pipeline: Path, extra: tuple[str, ...], message: str
) -> None:
    result = invoke("run", pipeline, *extra)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (pipeline.parent / "run").exists()


def test_report_of_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def build(folders: list[Path], *, baseline: Path | None, output: Path | None, gates: Any) -> Report:
        calls.append((folders, baseline, output))
        assert gates is None
        return report()

    stand_in(monkeypatch, "compressbert.pipeline.steps.report", report=build)
    result = invoke("report", "a", "b", "--baseline", "b", "-o", "out")
    assert result.exit_code == 0
    assert "prune" in result.stdout
    assert calls == [([Path("a"), Path("b")], Path("b"), Path("out"))]
    assert json.loads(invoke("report", "a", "--json").stdout)["title"] == "[run]"
    assert invoke("report").exit_code == 2

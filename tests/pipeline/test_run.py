"""A pipeline as users see it: it runs, skips what is done, notices changes, and judges."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compressbert.config.schema import PipelineConfig
from compressbert.errors import ConfigError, InputError
from compressbert.pipeline.plan import INPUT, plan
from compressbert.pipeline.run import RunResult, run
from compressbert.results.measured import CandidateTimings
from compressbert.results.record import Interval, MemoryFacts
from compressbert.results.store import read_result
from tests.tiny import save_tiny, toy_rows, write_rows

STEPS: list[dict[str, Any]] = [
    {"finetune": {"train": {"epochs": 2}}},
    {"distill": {"method": {"name": "distilbert", "layers": 1}}},
    {"prune": {"method": {"name": "michel", "keep": 0.75}}},
    {"quantize": {"method": {"name": "dynamic_int8"}}},
    {"export": {"format": "onnx"}},
]
NAMES = ("finetune", "distill", "prune", "quantize", "export")


def settings(place: Path, **changes: Any) -> PipelineConfig:
    return PipelineConfig.model_validate(
        {
            "name": "tiny",
            "output": str(place / "run"),
            "model": {"path": str(place / "model")},
            "data": {"train": str(place / "train.jsonl"), "validation": str(place / "validation.jsonl")},
            "train": {"epochs": 1, "learning_rate": 1e-3},
            "steps": STEPS,
            "benchmark": {"rounds": 3, "cells": [[1, 16]], "sentences": 16, "warmup": 4},
            **changes,
        }
    )


def write_inputs(place: Path) -> None:
    save_tiny(place / "model")
    write_rows(place / "train.jsonl", toy_rows(120))
    write_rows(place / "validation.jsonl", toy_rows(60, seed=1))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, RunResult]]:
    place = tmp_path_factory.mktemp("pipeline")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPRESSBERT_CACHE", str(place / "cache"))
        write_inputs(place)
        yield place, run(settings(place))


@pytest.fixture
def copied(finished: tuple[Path, RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The inputs and a finished run, copied so that a test may change them."""
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("COMPRESSBERT_CACHE", str(tmp_path / "cache"))
    return tmp_path


def actions(config: PipelineConfig, **options: Any) -> dict[str, str]:
    return {step.name: step.action for step in plan(config, **options).steps}


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(f): (f.stat().st_mtime_ns, f.stat().st_size) for f in folder.rglob("*") if f.is_file()}


def test_every_step_ran_and_left_a_complete_folder(finished: tuple[Path, RunResult]) -> None:
    place, result = finished
    assert result.ran == NAMES
    assert result.skipped == ()
    for index, name in enumerate(NAMES, start=1):
        record = read_result(place / "run" / f"{index:02d}-{name}")
        assert record.quality["accuracy"].examples == 60
        assert record.model is not None
        assert record.parent is not None
    assert not list((place / "run").glob(".*"))


def test_cards_tell_what_was_measured_and_stay_with_the_person_who_edits_them(copied: Path) -> None:
    cards = [
        copied / "run" / f"{index:02d}-{name}" / "README.md" for index, name in enumerate(NAMES, start=1)
    ]
    texts = [card.read_text() for card in cards]
    assert all("data's lengths" in text for text in texts)
    assert "Against finetune, on the same rows" in texts[-1]
    assert "timed as ONNX" in texts[1]
    assert "timed as ONNX" not in texts[-1]
    cards[-1].write_text("mine")
    again = run(settings(copied, gates={"max_megabytes": 100}))
    assert again.ran == ()
    assert [card.read_text() for card in cards] == [*texts[:-1], "mine"]


def test_report_has_a_row_for_each_step_against_the_teacher(finished: tuple[Path, RunResult]) -> None:
    place, result = finished
    rows = {row.name: row for row in result.report.rows}
    assert tuple(rows) == NAMES
    assert result.report.baseline == "finetune"
    assert rows["finetune"].speedup is None
    assert rows["finetune"].compression == 1.0
    for name in NAMES[1:]:
        assert rows[name].speedup is not None
        assert rows[name].retained is not None
        assert rows[name].bytes_on_disk < rows["finetune"].bytes_on_disk
    assert rows["distill"].heads_per_layer == (4,)
    assert rows["prune"].heads_per_layer == (3,)
    assert [rows[name].parent for name in NAMES] == [None, *NAMES[:-1]]
    assert len(rows["distill"].training) > 0
    names = {path.name for path in (place / "run").iterdir()}
    assert {"report.json", "report.md", "report.html", "pipeline.lock.json"} <= names


def test_flips_are_listed_with_their_text(finished: tuple[Path, RunResult]) -> None:
    place, result = finished
    row = next(row for row in result.report.rows if row.name == "distill")
    lines = (place / "run" / "measurements" / "flips-distill.jsonl").read_text().splitlines()
    assert len(lines) == row.flips
    assert all({"text", "baseline", "candidate", "row"} <= json.loads(line).keys() for line in lines)


def test_finished_run_recomputes_nothing(copied: Path) -> None:
    config = settings(copied, model={"path": str(copied / "model")})
    first = run(config)  # the copy lies elsewhere: settings hold no paths, so nothing runs
    before = snapshot(copied / "run")
    again = run(config)
    assert first.ran == again.ran == ()
    assert again.skipped == NAMES
    assert again.report == first.report
    assert snapshot(copied / "run") == before


def test_changed_setting_reruns_that_step_and_those_after_it(copied: Path) -> None:
    changed = [*STEPS]
    changed[2] = {"prune": {"method": {"name": "michel", "keep": 0.5}}}
    found = actions(settings(copied, steps=changed))
    assert found == {
        "finetune": "skip",
        "distill": "skip",
        "prune": "run",
        "quantize": "run",
        "export": "run",
    }


def test_changed_data_reruns_everything(copied: Path) -> None:
    write_rows(copied / "train.jsonl", toy_rows(121))
    assert set(actions(settings(copied)).values()) == {"run"}


def test_touched_data_with_the_same_content_reruns_nothing(copied: Path) -> None:
    write_rows(copied / "train.jsonl", toy_rows(120))
    assert set(actions(settings(copied)).values()) == {"skip"}


def test_damaged_result_is_made_again(copied: Path) -> None:
    weights = copied / "run" / "04-quantize" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    planned = plan(settings(copied))
    assert planned.step("prune").action == "skip"
    assert planned.step("quantize").reason == "model.safetensors changed since it was written"


def test_force_from_and_only_choose_steps(copied: Path) -> None:
    config = settings(copied)
    assert actions(config, force=["prune"])["prune"] == "run"
    assert actions(config, from_step="quantize") == {
        "finetune": "skip", "distill": "skip", "prune": "skip", "quantize": "run", "export": "run",
    }  # fmt: skip
    shutil.rmtree(copied / "run" / "03-prune")
    only = plan(config, only="distill")
    assert [step.name for step in only.running] == ["distill"]
    with pytest.raises(ConfigError, match="reads the output of 'prune', which is not there"):
        plan(config, only="quantize")


def test_forced_step_with_the_same_outcome_lets_the_next_be_skipped(copied: Path) -> None:
    result = run(settings(copied), force=["prune"])
    assert result.ran == ("prune",)
    assert result.skipped == ("finetune", "distill", "quantize", "export")


def test_unknown_step_name_lists_the_steps(copied: Path) -> None:
    with pytest.raises(ConfigError, match="no step is named 'prine'") as caught:
        plan(settings(copied), force=["prine"])
    assert "finetune, distill, prune" in caught.value.hint


def test_planning_writes_nothing(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    before = snapshot(tmp_path)
    planned = plan(settings(tmp_path))
    assert [step.action for step in planned.steps] == ["run"] * 5
    assert planned.step("distill").reason == "finetune runs before it"
    assert snapshot(tmp_path) == before


def test_missing_data_is_told_before_any_step_runs(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    (tmp_path / "validation.jsonl").unlink()
    with pytest.raises(InputError, match="validation"):
        run(settings(tmp_path))
    assert not (tmp_path / "run" / "01-finetune").exists()


def test_all_wrong_method_settings_are_told_before_any_step_runs(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    steps = [*STEPS]
    steps[1] = {"distill": {"method": {"name": "distilbert", "layerz": 1}}}
    steps[2] = {"prune": {"method": {"name": "michel", "keep": 0}}}
    with pytest.raises(ConfigError) as caught:
        run(settings(tmp_path, steps=steps))
    assert "layerz" in caught.value.message
    assert "method.keep" in caught.value.message
    assert not (tmp_path / "run" / "01-finetune").exists()


def test_sections_that_do_not_go_with_a_method_are_told_before_any_step_runs(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    steps = [*STEPS]
    steps[1] = {"distill": {"method": {"name": "pkd", "layers": 1}, "student": "finetune"}}
    steps[2] = {"distill": {"name": "again", "method": {"name": "distilbert"}, "augment": {"kind": "rules"}}}
    with pytest.raises(ConfigError) as caught:
        run(settings(tmp_path, steps=steps))
    first, second = caught.value.message.splitlines()
    student = tmp_path / "run" / "01-finetune"
    assert first == (
        f"step 'distill': pkd starts from `model` and would not read `student: {student}`. To go on from that folder, "
        "give it as `model`, and what it learns from as `teacher`."
    )
    assert second.startswith(
        "step 'again': distilbert, as it is set, learns from labels, and the texts that augment"
    )
    assert not student.exists()


def test_gates_decide_the_exit_code(copied: Path) -> None:
    passed = run(settings(copied, gates={"max_megabytes": 100}))
    failed = run(settings(copied, gates={"max_megabytes": 1e-6}))
    assert (passed.exit_code, failed.exit_code) == (0, 1)
    assert passed.ran == failed.ran == ()
    assert [gate.verdict for gate in failed.report.gates] == ["fail"]
    assert failed.report.rows == passed.report.rows  # the same figures: other limits measure nothing again
    assert failed.report.config["gates"]["max_megabytes"] == 1e-6


def test_an_undecided_speedup_is_measured_once_more(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate is judged on the second measurement alone; the rows keep the first, and nothing is bought twice."""
    first = run(settings(copied)).report
    speedup = first.rows[-1].speedup
    assert speedup is not None
    assert first.conditions is not None
    calls: list[tuple[tuple[str, ...], Any, int]] = []

    def again(
        candidates: dict[str, Path], benchmark: Any, *lengths: Any, most_rounds: int, **more: Any
    ) -> Any:
        calls.append((tuple(candidates), benchmark, most_rounds))
        ratio = Interval(value=speedup.value, low=speedup.value, high=speedup.value)
        cells = first.rows[-1].latency
        return [
            CandidateTimings(
                name=name, path="", runtime="onnxruntime", threads=1, load_ms=1, cells=cells,
                speedup_by_cell={"data": ratio}, memory=MemoryFacts(peak_rss_mb=1), conditions=first.conditions,
            )
            for name in candidates
        ]  # fmt: skip

    monkeypatch.setattr("compressbert.measure.latency.benchmark", again)
    limit = speedup.value + 0.5 * (speedup.high - speedup.value)
    gates = {"min_speedup": limit, "on_uncertain": "measure-more", "measure_more_seconds": 2}
    second = run(settings(copied, gates=gates))
    assert second.exit_code == 1
    assert "second measurement of 3 rounds" in second.report.gates[0].reason
    assert second.report.rows == first.rows
    ((names, benchmark, rounds),) = calls
    assert names == ("finetune", "export")
    assert benchmark.budget_seconds == 2
    assert rounds >= 3
    assert run(settings(copied, gates=gates)).report == second.report
    assert len(calls) == 1


def test_a_tree_starts_two_branches_from_one_step(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    steps = [
        {"quantize": {"method": {"name": "dynamic_int8"}}},
        {
            "quantize": {
                "name": "no-embeddings",
                "from": "input",
                "method": {"name": "dynamic_int8", "embeddings": False},
            }
        },
    ]
    result = run(settings(tmp_path, steps=steps))
    rows = {row.name: row for row in result.report.rows}
    assert tuple(rows) == (INPUT, "quantize", "no-embeddings")
    assert rows["quantize"].bytes_on_disk < rows["no-embeddings"].bytes_on_disk
    parents = {
        read_result(tmp_path / "run" / f"0{i}-{n}").parent for i, n in ((1, "quantize"), (2, "no-embeddings"))
    }
    assert len(parents) == 1

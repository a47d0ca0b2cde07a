"""A student that is no transformer goes through a whole pipeline: trained, exported, timed, reported, verified."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compressbert.config.schema import PipelineConfig
from compressbert.export.verify import verify
from compressbert.pipeline.run import run
from compressbert.results.store import read_result
from tests.tiny import save_tiny, toy_rows, write_rows

METHODS = [{"name": "static_embedding", "head": 8}, {"name": "bilstm_soft", "hidden": 4, "head": 8}]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method["name"])
def test_a_whole_pipeline(method: dict[str, object], tmp_path: Path) -> None:
    save_tiny(tmp_path / "model")
    for name, rows, seed in (("train", 40, 0), ("validation", 30, 1)):
        write_rows(tmp_path / f"{name}.jsonl", toy_rows(rows, seed=seed, pairs=True))
    config = PipelineConfig.model_validate(
        {
            "model": {"path": str(tmp_path / "model")},
            "data": {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "validation")},
            "steps": [{"distill": {"method": method, "train": {"max_steps": 3}}}, {"export": {}}],
            "benchmark": {"rounds": 2, "cells": [[1, 8]], "sentences": 4, "warmup": 2},
            "output": str(tmp_path / "run"),
        }
    )
    run(config)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    student = report["rows"][-1]
    assert student["speedup"]["value"] > 0
    assert student["parameters"] < report["rows"][0]["parameters"]
    trained, exported = (read_result(tmp_path / "run" / name) for name in ("01-distill", "02-export"))
    assert exported.quality["accuracy"].value == pytest.approx(trained.quality["accuracy"].value, abs=0.04)
    assert trained.model is not None
    assert exported.model is not None
    assert exported.model.bytes_by_component["embeddings"] == trained.model.bytes_by_component["embeddings"]
    card = (tmp_path / "run" / "01-distill" / "README.md").read_text()
    assert "trust_remote_code=True" in card
    assert "0 layers" not in card
    for folder, opened in (("01-distill", {"compressbert", "transformers"}), ("02-export", {"onnxruntime"})):
        checks = {check.loader: check for check in verify(tmp_path / "run" / folder)}
        assert {name for name, check in checks.items() if check.status == "ok"} >= opened
        assert not [check for check in checks.values() if check.status == "failed"]
    assert checks["optimum"].status == checks["transformers.js"].status == "unfit"

"""Two processes started by torchrun end with the student of one process that reads batches twice as large."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from compressbert.cli.app import app
from compressbert.results.store import read_result
from tests.tiny import save_tiny, toy_rows, write_rows

ROOT = Path(__file__).parents[2]
# 61 rows leave one for the second process in an epoch's last step, 58 leave it none.
METHODS: dict[str, tuple[dict[str, Any], int]] = {
    "pkd": ({"layers": 2}, 58),
    "tinybert": ({"layers": 2, "hidden": 24, "ffn": 32, "intermediate_epochs": 1}, 61),
}


@pytest.mark.parametrize("method", list(METHODS))
def test_two_processes_learn_what_one_does(method: str, tmp_path: Path) -> None:
    settings, rows = METHODS[method]
    save_tiny(tmp_path / "teacher", layers=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    config = {
        "model": {"path": str(tmp_path / "teacher")},
        "data": {
            "train": str(write_rows(tmp_path / "train.jsonl", toy_rows(rows, seed=0))),
            "validation": str(write_rows(tmp_path / "validation.jsonl", toy_rows(20, seed=1))),
        },
        "method": {"name": method, **settings},
        "train": {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "precision": "fp32"},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    words = ["distill", str(tmp_path / "config.yaml"), "--output"]

    alone = CliRunner().invoke(app, [*words, str(tmp_path / "one")])
    assert alone.exit_code == 0, alone.output
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launch, "-m", "compressbert", *words, str(tmp_path / "two"), "--set", "train.batch_size=4"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("written to") == 1  # one process speaks for all

    one, two = (read_result(tmp_path / name) for name in ("one", "two"))
    assert two.files.keys() == one.files.keys()
    losses = [[entry["loss"] for entry in result.training] for result in (one, two)]
    assert len(losses[0]) >= 8
    for first, second in zip(*losses, strict=True):
        assert second == pytest.approx(first, rel=1e-4)
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("one", "two")]
    for name, tensor in weights[0].items():
        if not name.endswith("key.bias"):  # where its true gradient is 0, Adam scales rounding noise up
            torch.testing.assert_close(weights[1][name], tensor, rtol=1e-3, atol=2e-5, msg=name)


def test_accelerate_is_not_believed_when_it_starts_one_process(tmp_path: Path) -> None:
    code = "from compressbert import progress as p; from compressbert.train import processes;"
    code += "p.listen(type('Loud', (p.Silent,), {'warn': lambda self, text: print(text)})());"
    code += "processes.warn_of_a_lone_process()"

    def said(**environment: str) -> str:
        everything = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        done = subprocess.run(
            [sys.executable, "-c", code], env=everything, capture_output=True, text=True, check=True
        )
        return done.stdout

    launched = {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"}
    assert "--multi_gpu" in said(**launched)
    assert said(**launched, WORLD_SIZE="2") == ""


def test_a_pipeline_runs_in_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    save_tiny(tmp_path / "model")
    config = {"model": {"path": str(tmp_path / "model")}, "data": {}, "steps": [{"export": None}]}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    done = CliRunner().invoke(app, ["run", str(tmp_path / "run.yaml"), "--output", str(tmp_path / "run")])
    assert done.exit_code == 2
    assert "a pipeline runs in one process" in done.output

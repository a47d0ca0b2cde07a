"""Every kind of task through a chain of steps: trained, distilled, quantized, exported, scored and compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compressbert.config.schema import CompressConfig, DataConfig, ExportStepConfig, FinetuneConfig
from compressbert.pipeline.steps.compare import compare_folders
from compressbert.pipeline.steps.compress import compress
from compressbert.pipeline.steps.export import export
from compressbert.pipeline.steps.finetune import finetune
from tests.tiny import question_rows, save_tiny, scored_pairs, tagged_rows, write_rows

KINDS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "token-classification": (tagged_rows, "entity_f1", {}),
    "question-answering": (
        question_rows,
        "f1",
        {"answers": {"stride": 4, "max_question": 8}, "max_length": 24},
    ),
    "sentence-embedding": (scored_pairs, "spearman", {"embedding": {"pooling": "mean"}}),
}
TRAIN = {"max_steps": 2, "batch_size": 8, "learning_rate": 1e-3, "precision": "fp32"}


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_chain(kind: str, tmp_path: Path) -> None:
    rows, metric, settings = KINDS[kind]
    data = DataConfig.model_validate(
        {
            "task": kind,
            "train": str(write_rows(tmp_path / "train.jsonl", rows(24))),
            "validation": str(write_rows(tmp_path / "validation.jsonl", rows(40, seed=1))),
            **settings,
        }
    )
    folders = {name: tmp_path / name for name in ("teacher", "student", "int8", "onnx")}
    stock = {"path": str(save_tiny(tmp_path / "model", head="none"))}

    def step(schema: type[Any], source: str, output: str, **more: Any) -> Any:
        model = stock if source == "model" else {"path": str(folders[source])}
        return schema.model_validate({"model": model, "data": data, "output": str(folders[output]), **more})

    distilbert = {"method": {"name": "distilbert", "layers": 1}, "train": TRAIN}
    results = [
        finetune(step(FinetuneConfig, "model", "teacher", train=TRAIN)),
        compress("distill", step(CompressConfig, "teacher", "student", **distilbert)),
        compress("quantize", step(CompressConfig, "student", "int8", method={"name": "dynamic_int8"})),
        export(step(ExportStepConfig, "int8", "onnx")),
    ]
    for result in results:
        assert result.primary_metric == metric
        assert result.quality[metric].low <= result.quality[metric].value <= result.quality[metric].high
    assert (folders["onnx"] / "modules.json").is_file() == (kind == "sentence-embedding")
    found = compare_folders(folders, "teacher", data, place=tmp_path)
    assert set(found) == {"student", "int8", "onnx"}
    for name, comparison in found.items():
        assert comparison.metric == metric
        flips = tmp_path / f"flips-{name}.jsonl"
        assert flips.is_file() == (kind != "sentence-embedding")
        if comparison.flips is not None:
            lines = [json.loads(line) for line in flips.read_text(encoding="utf-8").splitlines()]
            assert sorted(line["row"] for line in lines) == list(comparison.flips)
            assert all(line["baseline"] != line["candidate"] for line in lines)

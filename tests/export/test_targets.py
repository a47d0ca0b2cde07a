"""Layouts of servers: what `export --target` writes keeps the rules that `verify` checks, and breaking one is seen."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from compressbert.api import export, verify
from compressbert.config.schema import ExportConfig, ExportStepConfig
from compressbert.errors import ConfigError
from compressbert.export.layouts import tei_problems, triton_problems
from compressbert.measure.runners import open_runner
from tests.tiny import padded_batch, save_tiny


def exported(
    tmp_path: Path, target: str, family: str = "bert", precision: str = "int8", **model: object
) -> Path:
    """A tiny model exported for a target, as ``served``."""
    config = ExportStepConfig(
        model={"path": str(save_tiny(tmp_path / "model", family, **model))},
        export=ExportConfig(target=target, precision=precision),
        output=str(tmp_path / "served"),
    )
    export(config)
    return tmp_path / "served"


def statuses(folder: Path) -> dict[str, str]:
    return {check.loader: check.status for check in verify(folder).checks}


@pytest.fixture(autouse=True)
def no_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESSBERT_LOADERS", str(tmp_path / "loaders"))


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_tei_finds_one_file_and_the_keys_it_parses(family: str, tmp_path: Path) -> None:
    folder = exported(tmp_path, "tei", family)
    assert [path.name for path in (folder / "onnx").iterdir()] == ["model.onnx"]
    assert tei_problems(folder) == []
    config = json.loads((folder / "config.json").read_text())
    assert (config["hidden_size"], config["num_hidden_layers"]) == (32, 2)
    assert config["id2label"] == {"0": "negative", "1": "positive"}
    assert config["label2id"] == {"negative": 0, "positive": 1}
    assert (
        json.loads((folder / "result.json").read_text())["model"]["bytes_on_disk"]
        == (folder / "onnx" / "model.onnx").stat().st_size
    )
    found = statuses(folder)
    assert found["text-embeddings-inference (layout)"] == found["onnxruntime"] == "ok"
    (folder / "tokenizer.json").unlink()
    assert statuses(folder)["text-embeddings-inference (layout)"] == "failed"


def test_tei_names_without_meaning_are_still_written(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", labels=3)
    config = json.loads((folder / "config.json").read_text())
    del config["id2label"], config["label2id"]
    (folder / "config.json").write_text(json.dumps(config | {"num_labels": 3}))
    export(
        ExportStepConfig(
            model={"path": str(folder)}, export=ExportConfig(target="tei"), output=str(tmp_path / "served")
        )
    )
    assert tei_problems(tmp_path / "served") == []
    assert json.loads((tmp_path / "served" / "config.json").read_text())["id2label"]["2"] == "LABEL_2"


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("masked-lm", "it serves classifiers and embeddings"),
        ("answers", "it serves classifiers and embeddings"),
        ("tokens", "this one classifies tokens"),
    ],
)
def test_tei_does_not_serve_what_answers_per_token(head: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=reason):
        exported(tmp_path, "tei", head=head, precision="fp32")
    assert not (tmp_path / "served").exists()


def test_a_plain_export_is_unfit_for_tei_and_that_is_no_failure(tmp_path: Path) -> None:
    folder = exported(tmp_path, "any", "distilbert", precision="fp32")
    result = verify(folder)
    (check,) = [check for check in result.checks if "text-embeddings" in check.loader]
    assert (check.status, result.ok) == ("unfit", True)
    assert "hidden_size" in check.detail


def test_triton_gets_a_repository_whose_config_is_that_of_the_file(tmp_path: Path) -> None:
    folder = exported(tmp_path, "triton")
    place = folder / "model_repository" / "served"
    assert sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()) == [
        "1/model.onnx", "config.pbtxt", "labels.txt",
    ]  # fmt: skip
    assert (place / "labels.txt").read_text() == "negative\npositive\n"
    text = (place / "config.pbtxt").read_text()
    assert text.splitlines()[:6] == [
        'name: "served"',
        "max_batch_size: 32",
        "input {",
        '  name: "input_ids"',
        "  data_type: TYPE_INT64",
        "  dims: -1",
    ]
    for part in (
        'backend: "onnxruntime"',
        "data_type: TYPE_FP32\n  dims: 2",
        "dynamic_batching {",
        "kind: KIND_CPU",
    ):
        assert part in text
    assert triton_problems(folder / "model_repository") == []
    found = statuses(folder)
    assert found["triton (layout)"] == found["onnxruntime"] == "ok"
    runner = open_runner(folder)
    assert runner.limits.vocab_size is not None
    inputs = {name: values.numpy() for name, values in padded_batch("bert").items()}
    assert np.isfinite(runner.predict(inputs)).all()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('name: "served"', 'name: "other"', "it must be the folder's name"),
        ("dims: 2", "dims: 3", r"output logits is \('TYPE_FP32', \(2,\)\)"),
        ("TYPE_INT64", "TYPE_INT32", "input input_ids is"),
        ('"token_type_ids"', '"types"', "lacks the input token_type_ids"),
        ('backend: "onnxruntime"', 'backend: "python"', "backend"),
        ("max_batch_size: 32", "max_batch_size: 0", "is"),
        ("input {", "input [{", "config.pbtxt"),
    ],
)
def test_a_wrong_triton_config_is_seen(old: str, new: str, problem: str, tmp_path: Path) -> None:
    folder = exported(tmp_path, "triton")
    file = folder / "model_repository" / "served" / "config.pbtxt"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    found = "\n".join(triton_problems(folder / "model_repository"))
    assert re.search(problem, found), found
    assert statuses(folder)["triton (layout)"] == "failed"


def test_a_triton_config_that_a_user_extended_is_fine(tmp_path: Path) -> None:
    folder = exported(tmp_path, "triton")
    file = folder / "model_repository" / "served" / "config.pbtxt"
    file.write_text(
        file.read_text()
        + 'version_policy: { latest: { num_versions: 1 } }\nparameters { key: "a" value { string_value: "b" } }\n'
        + "instance_group [ { kind: KIND_CPU count: 2 } ]\n"
    )
    assert triton_problems(folder / "model_repository") == []


def test_a_damaged_file_in_the_repository_fails(tmp_path: Path) -> None:
    folder = exported(tmp_path, "triton")
    graph = folder / "model_repository" / "served" / "1" / "model.onnx"
    graph.write_bytes(b"\x08\x07" * 40)
    assert statuses(folder)["triton (layout)"] == "failed"
    graph.unlink()
    assert triton_problems(folder / "model_repository") == ["served: 1/model.onnx is missing"]


def test_targets_that_cannot_be_are_refused_before_work() -> None:
    for settings, words in (
        ({"target": "tei", "precision": "both"}, "reads one file"),
        ({"target": "triton", "format": "openvino"}, "a layout of ONNX files"),
    ):
        config = ExportStepConfig(model={"path": "nowhere"}, export=ExportConfig(**settings), output="out")
        with pytest.raises(ConfigError, match=words):
            export(config)


def test_opset_of_the_file_is_what_the_oldest_onnxruntime_reads(tmp_path: Path) -> None:
    folder = exported(tmp_path, "transformers-js", precision="both")
    for name in ("model.onnx", "model_quantized.onnx"):
        proto = onnx.load(str(folder / "onnx" / name))
        versions = {entry.domain: entry.version for entry in proto.opset_import}
        assert (proto.ir_version, versions[""]) == (8, 17)

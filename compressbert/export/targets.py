"""Layouts of servers: turns a finished export folder into what text-embeddings-inference or Triton looks for.

Without a target a folder is already what onnxruntime, optimum and transformers.js look for. The rules that the
result must keep are in `layouts.py` and are checked before it is kept.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import onnx
from google.protobuf import text_format  # type: ignore[import-untyped,unused-ignore]

from compressbert.config.schema import ExportConfig
from compressbert.errors import ConfigError
from compressbert.export import layouts
from compressbert.export.triton_config import ModelConfig, type_number
from compressbert.model.handle import Model

MAX_BATCH_SIZE = 32
MAX_QUEUE_DELAY_MICROSECONDS = 1000
_SERVERS = {"tei": "text-embeddings-inference", "triton": "Triton"}


def check_target(settings: ExportConfig) -> None:
    """Raise ConfigError for settings a target cannot hold."""
    server = _SERVERS.get(settings.target)
    if settings.target != "any" and settings.format != "onnx":
        raise ConfigError(
            f"export.target: {settings.target} is a layout of ONNX files.", hint="Set format: onnx."
        )
    if server and settings.precision == "both":
        raise ConfigError(
            f"{server} reads one file, and precision: both writes two.", hint="Set precision: int8 or fp32."
        )


def arrange(folder: Path, model: Model, settings: ExportConfig, *, name: str) -> dict[Path, Path]:
    """Lay out a folder that holds an export for ``settings.target``.

    Args:
        folder: With `onnx/*.onnx`, config and tokenizer.
        model: What was exported.
        settings: Its target.
        name: What a server calls the model.

    Returns:
        Where files went that were moved.

    Raises:
        ConfigError: The target does not serve this kind of model.
    """
    problems: list[str] = []
    moved: dict[Path, Path] = {}
    if settings.target == "transformers-js":
        problems = [] if (folder / "tokenizer.json").is_file() else ["tokenizer.json is missing"]
    elif settings.target == "tei":
        moved = _for_tei(folder, model)
        problems = layouts.tei_problems(folder)
    elif settings.target == "triton":
        moved = _for_triton(folder, model, re.sub(r"[^A-Za-z0-9_.-]", "_", name) or "model")
        problems = layouts.triton_problems(folder / layouts.REPOSITORY)
    if problems:
        raise ConfigError(f"target: {settings.target} cannot serve this model: {'; '.join(problems)}.")
    return moved


def _for_tei(folder: Path, model: Model) -> dict[Path, Path]:
    """One file under the one name it reads; keys of the config under the names it knows; the pooling."""
    (exported,) = sorted((folder / "onnx").glob("*.onnx"))
    only = exported.with_name("model.onnx")
    os.replace(exported, only)
    file, network = folder / "config.json", model.network.config
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    config |= {
        "hidden_size": network.hidden_size,
        "num_hidden_layers": network.num_hidden_layers,
        "pad_token_id": network.pad_token_id or 0,
    }
    _write_json(file, config)
    pooling = getattr(model, "pooling", None)
    if pooling is not None:
        (folder / "1_Pooling").mkdir(exist_ok=True)
        _write_json(
            folder / "1_Pooling" / "config.json",
            {
                "word_embedding_dimension": network.hidden_size,
                "pooling_mode_cls_token": pooling.mode == "cls",
                "pooling_mode_mean_tokens": pooling.mode == "mean",
                "pooling_mode_max_tokens": False,
                "pooling_mode_mean_sqrt_len_tokens": False,
            },
        )
    return {exported: only}


def _for_triton(folder: Path, model: Model, name: str) -> dict[Path, Path]:
    """``model_repository/NAME/1/model.onnx`` with its `config.pbtxt` and names of labels."""
    (exported,) = sorted((folder / "onnx").glob("*.onnx"))
    place = folder / layouts.REPOSITORY / name
    (place / "1").mkdir(parents=True)
    for file in sorted((folder / "onnx").iterdir()):  # weights that lie beside the graph come along
        os.replace(file, place / "1" / ("model.onnx" if file == exported else file.name))
    (folder / "onnx").rmdir()
    labels = (
        [str(model.network.config.id2label[index]) for index in range(model.network.config.num_labels)]
        if type(model.network).__name__.endswith("SequenceClassification")
        else []
    )
    if labels:
        (place / "labels.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")
    text = triton_config(place / "1" / "model.onnx", name, with_labels=bool(labels))
    (place / "config.pbtxt").write_text(text, encoding="utf-8")
    return {exported: place / "1" / "model.onnx"}


def triton_config(file: Path, name: str, *, with_labels: bool) -> str:
    """The text of `config.pbtxt` for an .onnx file: its tensors, batching of what arrives together, the CPU."""
    graph = onnx.load(str(file), load_external_data=False).graph
    config = ModelConfig(name=name, backend="onnxruntime", max_batch_size=MAX_BATCH_SIZE)
    for told, tensors in ((config.input, graph.input), (config.output, graph.output)):
        for tensor in tensors:
            kind, dims = layouts.described(tensor, MAX_BATCH_SIZE)
            entry = told.add(name=tensor.name, data_type=type_number(kind), dims=dims)
            if with_labels and told is config.output:
                entry.label_filename = "labels.txt"
    config.instance_group.add(kind=2, count=1)  # KIND_CPU
    config.dynamic_batching.max_queue_delay_microseconds = MAX_QUEUE_DELAY_MICROSECONDS
    text: str = text_format.MessageToString(config)
    return text


def _write_json(file: Path, value: dict[str, Any]) -> None:
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    file.write_text(f"{text}\n", encoding="utf-8")

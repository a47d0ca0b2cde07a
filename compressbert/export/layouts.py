"""Rules of servers that are not run here: what text-embeddings-inference and Triton require of a folder.

Sources: text-embeddings-inference, `router/src/lib.rs` and `backends/ort/src/lib.rs` (which files are read, which keys
are required, which outputs are known); Triton, "Model Repository" and "Model Configuration" of its user guide and
`model_config.proto`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from google.protobuf import text_format  # type: ignore[import-untyped,unused-ignore]

from compressbert.export.triton_config import ModelConfig, type_name

REPOSITORY = "model_repository"

_TEI_TYPES: dict[str, type | tuple[type, ...]] = {
    "architectures": list,
    "model_type": str,
    "max_position_embeddings": int,
    "pad_token_id": int,
    "hidden_size": int,
    "num_hidden_layers": int,
}
_TEI_OUTPUTS = ("sentence_embedding", "last_hidden_state", "token_embeddings")
_POOLING_KEYS = (
    "pooling_mode_cls_token",
    "pooling_mode_mean_tokens",
    "pooling_mode_max_tokens",
    "pooling_mode_mean_sqrt_len_tokens",
)


def tei_problems(folder: Path) -> list[str]:
    """What keeps text-embeddings-inference from serving a folder with its onnxruntime backend; empty if nothing does.

    It reads `model.onnx` or `onnx/model.onnx`, never another name, the fast tokenizer, and a few keys of
    `config.json`. Classifiers need label names and an output ``logits``; embeddings an output of a known name and
    `1_Pooling/config.json`, even if the graph pools itself.
    """
    file = next(
        (path for path in (folder / "model.onnx", folder / "onnx" / "model.onnx") if path.is_file()), None
    )
    if file is None:
        return ["there is neither model.onnx nor onnx/model.onnx, the only names it reads"]
    problems = _tei_config_problems(folder)
    if not (folder / "tokenizer.json").is_file():
        problems.append("tokenizer.json is missing")
    inputs, outputs = _tensors(file)
    unknown = sorted(set(inputs) - {"input_ids", "attention_mask", "token_type_ids", "position_ids"})
    if unknown:
        problems.append(f"it does not fill the input {', '.join(unknown)}")
    if not problems:
        problems += _tei_head_problems(folder, outputs)
    return problems


def _tei_config_problems(folder: Path) -> list[str]:
    file = folder / "config.json"
    if not file.is_file():
        return ["config.json is missing"]
    config = json.loads(file.read_text(encoding="utf-8"))
    return [
        f"config.json needs {name} as {getattr(kind, '__name__', kind)}, found {json.dumps(config.get(name))}"
        for name, kind in _TEI_TYPES.items()
        if not isinstance(config.get(name), kind)
    ]


def _tei_head_problems(folder: Path, outputs: Mapping[str, int]) -> list[str]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if any(name.endswith("Classification") for name in config["architectures"]):
        missing = [key for key in ("id2label", "label2id") if not config.get(key)]
        problems = [f"config.json lacks {key}" for key in missing]
        if "logits" not in outputs:
            problems.append("a classifier's output must be called logits")
        elif outputs["logits"] != 2:  # it would answer with rows of whatever tokens come first
            problems.append("it serves classifiers of texts; this one classifies tokens")
        return problems
    if not set(outputs) & set(_TEI_OUTPUTS):
        return [f"it serves classifiers and embeddings; the outputs are {', '.join(outputs)}"]
    file = folder / "1_Pooling" / "config.json"
    if not file.is_file():
        return ["1_Pooling/config.json is missing; start it with --pooling mean or --pooling cls instead"]
    pooling = json.loads(file.read_text(encoding="utf-8"))
    return [f"1_Pooling/config.json lacks {key}" for key in _POOLING_KEYS if key not in pooling]


def triton_problems(repository: Path) -> list[str]:
    """What is wrong with a Triton model repository of onnxruntime models; empty if nothing is.

    Every model's folder holds `config.pbtxt` and versions `1/model.onnx`; the configuration's name, tensors,
    types and dimensions must be those of the folder and the file.
    """
    models = sorted(path for path in repository.iterdir() if path.is_dir())
    if not models:
        return [f"{repository.name} holds no model"]
    return [f"{model.name}: {problem}" for model in models for problem in _model_problems(model)]


def _model_problems(model: Path) -> list[str]:
    file = model / "config.pbtxt"
    if not file.is_file():
        return ["config.pbtxt is missing"]
    config = ModelConfig()
    try:
        text_format.Parse(file.read_text(encoding="utf-8"), config, allow_unknown_field=True)
    except text_format.ParseError as error:
        return [f"config.pbtxt: {error}"]
    problems = []
    if config.name not in ("", model.name):
        problems.append(f"config.pbtxt names {config.name}; it must be the folder's name")
    if config.backend != "onnxruntime" and config.platform != "onnxruntime_onnx":
        problems.append('config.pbtxt must say backend: "onnxruntime"')
    versions = [
        path for path in model.iterdir() if path.is_dir() and path.name.isdigit() and path.name[0] != "0"
    ]
    if not versions:
        problems.append("there is no version folder such as 1/")
    for version in versions:
        graph = version / (config.default_model_filename or "model.onnx")
        if not graph.is_file():
            problems.append(f"{version.name}/{graph.name} is missing")
            continue
        problems += _tensor_problems(config, graph)
    return problems


def _tensor_problems(config: Any, file: Path) -> list[str]:
    graph = onnx.load(str(file), load_external_data=False).graph
    problems = []
    for kind, told, real in (("input", config.input, graph.input), ("output", config.output, graph.output)):
        found = {tensor.name: described(tensor, config.max_batch_size) for tensor in real}
        for tensor in told:
            given = (type_name(tensor.data_type), tuple(tensor.dims))
            if tensor.name not in found:
                problems.append(f"the file has no {kind} {tensor.name}")
            elif given != found[tensor.name]:
                problems.append(f"{kind} {tensor.name} is {found[tensor.name]}, config.pbtxt says {given}")
        missing = set(found) - {tensor.name for tensor in told} if kind == "input" else set()
        problems += [f"config.pbtxt lacks the input {name}" for name in sorted(missing)]
    return problems


def described(tensor: onnx.ValueInfoProto, max_batch_size: int) -> tuple[str, tuple[int, ...]]:
    """Triton's type and dimensions of a graph's tensor: -1 where free, without the batch axis if it batches."""
    kind = tensor.type.tensor_type
    name = {onnx.TensorProto.INT64: "TYPE_INT64", onnx.TensorProto.FLOAT: "TYPE_FP32"}.get(
        kind.elem_type, "?"
    )
    dims = [axis.dim_value if axis.HasField("dim_value") else -1 for axis in kind.shape.dim]
    return name, tuple(dims[1:] if max_batch_size > 0 else dims)


def _tensors(file: Path) -> tuple[list[str], dict[str, int]]:
    """Names of the inputs, and names of the outputs with their number of axes."""
    graph = onnx.load(str(file), load_external_data=False).graph
    outputs = {node.name: len(node.type.tensor_type.shape.dim) for node in graph.output}
    return [node.name for node in graph.input], outputs

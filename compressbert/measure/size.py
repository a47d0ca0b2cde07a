"""Bytes of an exported file, by component of the model."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

from compressbert.errors import InputError
from compressbert.measure.runners import onnx_file, openvino_file

COMPONENTS = ("embeddings", "attention", "ffn", "head", "rest")

# Names follow the module paths of transformers, so the first pattern that matches decides.
_LAYER = r"\.?layers?[._]\d+\."
_PATTERNS = (
    (
        "head",
        re.compile(
            r"(^|\.)(classifier|pre_classifier|pooler|cls|lm_head|vocab_\w+|generator_\w+|predictions|qa_outputs|head|decoder)\b"
        ),
    ),
    ("embeddings", re.compile(r"(^|\.)(embeddings(_project)?|embedding_hidden_mapping_in)\b")),
    (
        "attention",
        re.compile(r"relative_attention_bias\b|" + _LAYER + r"(attention|attn|attn_norm|sa_layer_norm)\b"),
    ),
    (
        "ffn",
        re.compile(
            _LAYER
            + r"(intermediate|output|ffn|ffn_output|output_layer_norm|full_layer_layer_norm|mlp|mlp_norm)\b"
        ),
    ),
)


@dataclass(frozen=True)
class FileFacts:
    """Size of an exported file. The components add up to it; the graph itself counts as rest."""

    bytes_on_disk: int
    bytes_by_component: dict[str, int]
    initializers: int


def bytes_on_disk(path: Path) -> int:
    """Bytes of the files that `runners.open_runner` needs of ``path``, configuration and tokenizer excluded."""
    from compressbert.model.count import stored_bytes

    if (file := onnx_file(path)) is not None:
        return onnx_facts(file).bytes_on_disk
    if not (path / "model.safetensors").exists() and (file := openvino_file(path)) is not None:
        return openvino_facts(file).bytes_on_disk
    return stored_bytes(path)


def component_of(name: str) -> str:
    """Component of a parameter or initializer, from its transformers path."""
    return next((component for component, pattern in _PATTERNS if pattern.search(name)), "rest")


def _tensor_bytes(tensor: onnx.TensorProto) -> int:
    bits = {onnx.TensorProto.INT4: 4, onnx.TensorProto.UINT4: 4}.get(tensor.data_type)
    if bits is None:
        bits = 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return -(-math.prod(int(size) for size in tensor.dims) * int(bits) // 8)


def onnx_facts(file: Path) -> FileFacts:
    """Bytes of ``file`` and its sidecars, by component. Raises InputError for a file that is not ONNX."""
    try:
        graph = onnx.load(str(file), load_external_data=False).graph
    except (DecodeError, FileNotFoundError) as error:
        raise InputError(
            f"{file} is not a readable ONNX file: {error}.", hint="Export the model again."
        ) from error
    components = dict.fromkeys(COMPONENTS, 0)
    sidecars = set()
    for tensor in graph.initializer:
        components[component_of(tensor.name)] += _tensor_bytes(tensor)
        sidecars |= {entry.value for entry in tensor.external_data if entry.key == "location"}
    total = file.stat().st_size + sum((file.parent / name).stat().st_size for name in sidecars)
    components["rest"] += total - sum(components.values())
    return FileFacts(total, components, len(graph.initializer))


def openvino_facts(file: Path) -> FileFacts:
    """Bytes of an OpenVINO IR and its weights, by component. Raises InputError for a file that is no IR.

    Constants have no names of their own, so each belongs to the module that reads it first.
    """
    try:
        net = ET.parse(file).getroot()
    except (ET.ParseError, FileNotFoundError) as error:
        raise InputError(f"{file} is not a readable IR: {error}.", hint="Export the model again.") from error
    names = {layer.get("id"): layer.get("name", "") for layer in net.iter("layer")}
    readers = defaultdict(list)
    for edge in net.iter("edge"):
        readers[edge.get("from-layer")].append(edge.get("to-layer"))
    components = dict.fromkeys(COMPONENTS, 0)
    counted = set()
    for layer in net.iter("layer"):
        data = layer.find("data")
        if layer.get("type") != "Const" or data is None or data.get("offset") in counted:
            continue
        counted.add(data.get("offset"))
        reader = layer.get("id")
        while "__module." not in names[reader] and readers[reader]:
            reader = readers[reader][0]
        components[component_of(_module(names[reader]))] += int(data.get("size", "0"))
    total = file.stat().st_size + file.with_suffix(".bin").stat().st_size
    components["rest"] += total - sum(components.values())
    return FileFacts(total, components, len(counted))


def _module(name: str) -> str:
    """``__module.network.bert.pooler.dense/aten::linear/Add`` as ``bert.pooler.dense``."""
    return name.partition("/")[0].removeprefix("__module.").removeprefix("network.")

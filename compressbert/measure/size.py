"""Bytes of an .onnx file, by component of the model."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

from compressbert.errors import InputError

COMPONENTS = ("embeddings", "attention", "ffn", "head", "rest")

# Names follow the transformers module paths of the four families, so the first pattern that matches decides.
_LAYER = r"\.?layers?[._]\d+\."
_PATTERNS = (
    (
        "head",
        re.compile(
            r"(^|\.)(classifier|pre_classifier|pooler|cls|lm_head|vocab_\w+|generator_\w+|qa_outputs)\b"
        ),
    ),
    ("embeddings", re.compile(r"(^|\.)embeddings(_project)?\b")),
    ("attention", re.compile(_LAYER + r"(attention|sa_layer_norm)\b")),
    ("ffn", re.compile(_LAYER + r"(intermediate|output|ffn|output_layer_norm)\b")),
)


@dataclass(frozen=True)
class OnnxFacts:
    """Size of an exported file. The components add up to it; the graph itself counts as rest."""

    bytes_on_disk: int
    bytes_by_component: dict[str, int]
    initializers: int


def component_of(name: str) -> str:
    """Component of a parameter or initializer, from its transformers path."""
    return next((component for component, pattern in _PATTERNS if pattern.search(name)), "rest")


def _tensor_bytes(tensor: onnx.TensorProto) -> int:
    bits = {onnx.TensorProto.INT4: 4, onnx.TensorProto.UINT4: 4}.get(tensor.data_type)
    if bits is None:
        bits = 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return -(-math.prod(int(size) for size in tensor.dims) * int(bits) // 8)


def onnx_facts(file: Path) -> OnnxFacts:
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
    return OnnxFacts(total, components, len(graph.initializer))

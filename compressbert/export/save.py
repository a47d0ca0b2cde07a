"""Writes a graph as one file, or as a file with one sidecar where its weights are more than a file can hold."""

from __future__ import annotations

import math
from pathlib import Path

import onnx

MAX_BYTES = 2**31 - 2**20  # a protobuf message ends at 2 GiB; the graph itself needs a little
_INLINE_BYTES = 1024  # smaller tensors stay in the file: shape inference reads them there


def save(model: onnx.ModelProto, file: Path) -> None:
    """Write ``model`` to ``file``; beyond 2 GiB its tensors go to ``FILE_data`` beside it.

    onnxruntime finds the sidecar through the file, wherever both are moved to; transformers.js and optimum
    look for this name. ``model`` is used up then: its tensors are empty afterwards.
    """
    if sum(map(_bytes, model.graph.initializer)) <= MAX_BYTES:
        onnx.save_model(model, str(file))
        return
    onnx.save_model(
        model,
        str(file),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=f"{file.name}_data",
        size_threshold=_INLINE_BYTES,
    )


def _bytes(tensor: onnx.TensorProto) -> int:
    """Bytes that a tensor takes, or a few more: not by its raw data, which reading copies."""
    width = int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    return math.prod(int(size) for size in tensor.dims) * width

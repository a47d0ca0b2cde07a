"""Opens an artefact in every loader that is installed and compares what they answer."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from compressbert.errors import InputError
from compressbert.export import loaders
from compressbert.export.probes import Inputs, limits_from_config, probe_batches

FP32_LIMIT = 1e-3  # largest |difference| / max(1, |value|) between loaders of one artefact
INT8_LIMIT = 0.25  # of int8 ONNX files: other runtimes round activations in other places

Array = NDArray[np.float32]


@dataclass(frozen=True)
class LoaderCheck:
    """What one loader did with one artefact.

    Attributes:
        loader: Its name; with the file's name where a folder holds several.
        status: ok, failed (did not open, or answered differently), or absent (not installed).
        max_difference: Largest |difference| / max(1, |value|) to the first loader of the artefact, on real
            tokens; None for the first one and for loaders that gave nothing.
        detail: A reason or a version.
    """

    loader: str
    status: Literal["ok", "failed", "absent"]
    max_difference: float | None
    detail: str


def verify(folder: Path) -> list[LoaderCheck]:
    """Open a model folder, an export folder or an .onnx file in every loader present.

    Model folders: compressbert and plain transformers (in a process of its own, without this package; code
    in the folder runs only if it is exactly what this package writes). ONNX files: onnxruntime, optimum and
    OpenVINO.

    Raises:
        InputError: There is nothing to open.
    """
    folder = Path(folder)
    files = (
        [folder]
        if folder.suffix == ".onnx"
        else [*sorted(folder.glob("onnx/*.onnx")), *sorted(folder.glob("*.onnx"))]
    )
    checks: list[LoaderCheck] = []
    if (folder / "config.json").is_file() and list(folder.glob("*.safetensors")):
        checks += _compare(loaders.MODEL_FOLDER, folder, _probes(folder), "", FP32_LIMIT)
    for file in files:
        limit = INT8_LIMIT if _is_int8(file) else FP32_LIMIT
        label = f" ({file.name})" if len(files) > 1 else ""
        checks += _compare(loaders.ONNX_FILE, file, _probes(_home(file)), label, limit)
    if not checks:
        raise InputError(
            f"There is neither a model nor an .onnx file in {folder}.",
            hint="Give a model folder, an export folder or an .onnx file.",
        )
    return checks


def _home(file: Path) -> Path:
    """The folder with the config of an .onnx file: its own or the one above."""
    return next((place for place in file.parents[:2] if (place / "config.json").is_file()), file.parent)


def _probes(folder: Path) -> list[Inputs]:
    file = folder / "config.json"
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    names = ("input_ids", "attention_mask", "token_type_ids")
    return probe_batches(limits_from_config(config), names)[:-1]  # the longest adds nothing here


def _is_int8(file: Path) -> bool:
    nodes = onnx.load(str(file), load_external_data=False).graph.node
    return any(
        node.op_type in ("MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul") for node in nodes
    )


def _compare(
    tried: Sequence[loaders.Loader], path: Path, batches: Sequence[Inputs], label: str, limit: float
) -> list[LoaderCheck]:
    checks: list[LoaderCheck] = []
    first: list[Array] | None = None
    for loader in tried:
        name = loader.name + label
        if importlib.util.find_spec(loader.package) is None:
            checks.append(LoaderCheck(name, "absent", None, f"{loader.package} is not installed"))
            continue
        try:
            answers = loader.run(path, batches)
        except loaders.Absent as reason:
            checks.append(LoaderCheck(name, "absent", None, str(reason)))
        except loaders.Failed as reason:
            checks.append(LoaderCheck(name, "failed", None, str(reason)))
        else:
            checks.append(_judge(name, batches, answers, first, limit))
            first = first or answers
    return checks


def _judge(
    name: str, batches: Sequence[Inputs], answers: list[Array], first: list[Array] | None, limit: float
) -> LoaderCheck:
    if not all(np.isfinite(answer).all() for answer in answers):
        return LoaderCheck(name, "failed", None, "an output is not finite")
    if first is None:
        return LoaderCheck(name, "ok", None, "")
    if [answer.shape for answer in answers] != [answer.shape for answer in first]:
        return LoaderCheck(name, "failed", None, f"outputs of shape {answers[0].shape}, not {first[0].shape}")
    worst = 0.0
    for batch, ours, theirs in zip(batches, answers, first, strict=True):
        difference = np.abs(ours - theirs) / np.maximum(1, np.abs(theirs))
        if difference.ndim == 3:
            difference = difference[batch["attention_mask"] == 1]
        worst = max(worst, float(difference.max()))
    if worst <= limit:
        return LoaderCheck(name, "ok", worst, "")
    return LoaderCheck(name, "failed", worst, f"differs by more than {limit:g}")

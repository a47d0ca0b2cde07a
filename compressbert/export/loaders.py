"""The programs that open what compressbert writes, each as one function from inputs to outputs."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from compressbert.errors import CompressbertError
from compressbert.export.probes import Inputs
from compressbert.model import checkpoint, remote_code

Array = NDArray[np.float32]

_SECONDS = 300  # a loader that takes longer has hung


class Absent(Exception):
    """A loader that is not installed in a form that works; the text says why."""


class Failed(Exception):
    """A loader that did not open or run the artefact; the text says why."""


@dataclass(frozen=True)
class Loader:
    """A program that opens artefacts.

    Attributes:
        name: As shown to people.
        package: What must be importable.
        run: Outputs for every batch, or `Absent` or `Failed`.
    """

    name: str
    package: str
    run: Callable[[Path, Sequence[Inputs]], list[Array]]


def _compressbert(folder: Path, batches: Sequence[Inputs]) -> list[Array]:
    try:
        model = checkpoint.load(folder)
    except CompressbertError as error:
        raise Failed(_first_line(error)) from error
    names = _accepted(model.network)
    answers = []
    for batch in batches:
        with torch.inference_mode():
            found = model(**{name: torch.from_numpy(batch[name]) for name in names})
        answers.append((found.logits if "logits" in found else found[0]).float().numpy())
    return answers


def _accepted(network: torch.nn.Module) -> list[str]:
    given = ("input_ids", "attention_mask", "token_type_ids")
    accepted = inspect.signature(network.forward).parameters
    return [name for name in given if name in accepted]


# Runs where this package cannot be imported; argv: folder, file of inputs, file for outputs, class, trust.
_SCRIPT = """
import sys, inspect
sys.modules["compressbert"] = None
import torch, transformers
from safetensors.torch import load_file, save_file
folder, inputs, outputs, name, trust = sys.argv[1:]
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
network, info = getattr(transformers, name).from_pretrained(
    folder, trust_remote_code=trust == "yes", dtype=torch.float32, output_loading_info=True,
    local_files_only=True)
wrong = {kind: sorted(map(str, keys)) for kind, keys in info.items() if keys}
if wrong:
    sys.exit(f"keys do not fit: {wrong}")
network.eval()
tensors, answers = load_file(inputs), {}
accepted = inspect.signature(network.forward).parameters
for index in sorted({key.split(".")[0] for key in tensors}):
    given = {key.split(".")[1]: value for key, value in tensors.items() if key.startswith(index + ".")}
    with torch.inference_mode():
        found = network(**{key: value for key, value in given.items() if key in accepted})
    answers[index] = (found.logits if "logits" in found else found[0]).float().contiguous()
save_file(answers, outputs)
"""


def _transformers(folder: Path, batches: Sequence[Inputs]) -> list[Array]:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    own_code = bool(config.get("auto_map"))
    if own_code:
        _require_known_code(folder)
        with_head = [key for key in config["auto_map"] if key not in ("AutoConfig", "AutoModel")]
        name = with_head[0] if with_head else "AutoModel"
    else:
        name = (config.get("architectures") or ["AutoModel"])[0]
    with tempfile.TemporaryDirectory() as scratch:
        inputs, outputs = Path(scratch) / "inputs.safetensors", Path(scratch) / "outputs.safetensors"
        flat = {f"{i:04}.{key}": value for i, batch in enumerate(batches) for key, value in batch.items()}
        save_file(flat, inputs)
        command = [sys.executable, "-c", _SCRIPT, str(folder.resolve()), str(inputs), str(outputs), name]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(Path(scratch) / "modules")}
        try:
            done = subprocess.run(
                [*command, "yes" if own_code else "no"],
                cwd=scratch, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise Failed(f"gave no answer in {_SECONDS} s") from error
        if done.returncode:
            raise Failed((done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1])
        answers = load_file(outputs)
    return [answers[key] for key in sorted(answers)]


def _require_known_code(folder: Path) -> None:
    """Code in a folder runs only if it is what this package writes for the model in it."""
    try:
        network = checkpoint.load(folder).network
    except CompressbertError as error:
        raise Failed(_first_line(error)) from error
    file = folder / remote_code.FILE
    expected = remote_code.source_code(network, remote_code.manifest(network))
    if not file.is_file() or file.read_text(encoding="utf-8") != expected:
        raise Failed(f"{remote_code.FILE} is not what this version writes for this model, so it was not run")


def _onnxruntime(file: Path, batches: Sequence[Inputs]) -> list[Array]:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    refusals = (
        state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented,
        state.NoSuchFile, state.RuntimeException,
    )  # fmt: skip
    try:
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        names = [node.name for node in session.get_inputs()]
        output = session.get_outputs()[0].name
        return [session.run([output], {name: batch[name] for name in names})[0] for batch in batches]
    except refusals as error:
        raise Failed(_first_line(error)) from error


def _optimum(file: Path, batches: Sequence[Inputs]) -> list[Array]:
    try:
        from optimum import onnxruntime as optimum
    except (ImportError, AttributeError) as error:
        raise Absent(f"optimum.onnxruntime cannot be imported: {_first_line(error)}") from error
    home = file.parent.parent if file.parent.name == "onnx" else file.parent
    config = json.loads((home / "config.json").read_text(encoding="utf-8"))
    kind = (config.get("architectures") or [""])[0]
    suffix = next((end for end in ("ForSequenceClassification", "ForMaskedLM") if kind.endswith(end)), None)
    name = f"ORTModel{suffix or 'ForFeatureExtraction'}"
    subfolder = "onnx" if home != file.parent else ""
    try:
        model = getattr(optimum, name).from_pretrained(home, subfolder=subfolder, file_name=file.name)
        found = [model(**{key: torch.from_numpy(value) for key, value in batch.items()}) for batch in batches]
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise Failed(_first_line(error)) from error
    return [(answer.logits if "logits" in answer else answer[0]).numpy() for answer in found]


def _openvino(file: Path, batches: Sequence[Inputs]) -> list[Array]:
    import openvino

    try:
        compiled = openvino.Core().compile_model(str(file), "CPU")
        names = [port.get_any_name() for port in compiled.inputs]
        return [np.array(compiled({name: batch[name] for name in names})[0]) for batch in batches]
    except (RuntimeError, ValueError, TypeError) as error:
        raise Failed(_first_line(error)) from error


def _first_line(error: Any) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


MODEL_FOLDER = (
    Loader("compressbert", "compressbert", _compressbert),
    Loader("transformers", "transformers", _transformers),
)
ONNX_FILE = (
    Loader("onnxruntime", "onnxruntime", _onnxruntime),
    Loader("optimum", "optimum", _optimum),
    Loader("openvino", "openvino", _openvino),
)

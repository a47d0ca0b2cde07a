"""Runners: one way to ask a model folder, an export folder, an .onnx file or an OpenVINO IR for its outputs.

The libraries of a runtime are imported when that runtime is opened: a worker that runs an ONNX file holds
neither torch nor transformers, so its memory and its cold start are those of a deployment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from compressbert.errors import InputError, WorkError

if TYPE_CHECKING:  # a worker that runs an ONNX file never imports torch
    from compressbert.model.checkpoint import TaskSpec

Arrays = Mapping[str, NDArray[Any]]
_PREFERRED = ("onnx/model_quantized.onnx", "onnx/model.onnx", "model_quantized.onnx", "model.onnx")
_PREFERRED_IR = ("openvino_model_quantized.xml", "openvino_model.xml")
SPINNING = "session.intra_op.allow_spinning"  # whether onnxruntime's threads wait for work without sleeping
_OFFSET_TYPES = ("roberta", "xlm-roberta", "camembert")  # positions start after the padding index


@dataclass(frozen=True)
class Limits:
    """What inputs a model accepts, from its `config.json`; None where that is not known."""

    vocab_size: int | None
    max_length: int | None
    pad_id: int


class Runner(Protocol):
    """A loaded artefact."""

    runtime: str
    input_names: tuple[str, ...]
    limits: Limits

    def predict(self, inputs: Arrays) -> NDArray[np.float32]:
        """Main output for int64 inputs (B, S): logits (B, C) for a classifier, (B, S, C) for one of tokens,
        (B, S, 2) starts and ends of answers, (B, H) vectors of a sentence encoder.
        """

    def close(self) -> None:
        """Release the artefact."""


def onnx_file(path: Path) -> Path | None:
    """The .onnx file ``path`` stands for: itself, or an export folder's int8 file, else its fp32 file."""
    if path.suffix == ".onnx":
        return path
    if (path / "model.safetensors").exists() or (path / "model.safetensors.index.json").exists():
        return None
    named = [path / name for name in _PREFERRED if (path / name).is_file()]
    found = named or sorted(
        [*path.glob("onnx/*.onnx"), *path.glob("*.onnx"), *path.glob("model_repository/*/1/*.onnx")]
    )
    return found[0] if found else None


def openvino_file(path: Path) -> Path | None:
    """The IR ``path`` stands for: the .xml itself, or the int8 one of an export folder, else its fp32 one."""
    if path.suffix == ".xml":
        return path
    return next((path / name for name in _PREFERRED_IR if (path / name).is_file()), None)


def config_folder(path: Path) -> Path | None:
    """Folder with the artefact's `config.json` and tokenizer: its own, or the one above."""
    start = path if path.is_dir() else path.parent
    places = [start, start.parent]
    if [folder.name for folder in start.parents[1:2]] == ["model_repository"]:  # Triton's layout
        places += start.parents[2:3]
    return next((folder for folder in places if (folder / "config.json").is_file()), None)


def _limits(path: Path) -> Limits:
    folder = config_folder(path)
    if folder is None:
        return Limits(vocab_size=None, max_length=None, pad_id=0)
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(
            f"Expected JSON in {file}: {error}.", hint="Write the model folder again."
        ) from error
    positions = config.get("max_position_embeddings")
    pad = config.get("pad_token_id") or 0
    if positions is not None and config.get("model_type") in _OFFSET_TYPES:
        positions -= pad + 1
    return Limits(vocab_size=config.get("vocab_size"), max_length=positions, pad_id=pad)


def _pick(inputs: Arrays, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    missing = [name for name in names if name not in inputs]
    if missing:
        raise InputError(
            f"The model takes {', '.join(names)}; got {', '.join(inputs)}: {', '.join(missing)} missing.",
            hint="Encode the data with the tokenizer that lies beside the model.",
        )
    return {name: inputs[name] for name in names}


class OnnxRunner:
    """An .onnx file in onnxruntime on the CPU.

    One fixed number of threads within an operator, none between operators. Unless ``spinning`` is asked for, the
    thread pool does not spin while it waits: an idle candidate must not take time from the one being measured.
    With one thread there is no pool.
    """

    runtime = "onnxruntime"

    def __init__(self, file: Path, *, threads: int, spinning: bool = False) -> None:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry(SPINNING, str(int(spinning)))
        options.log_severity_level = 3
        refusals = (
            state.Fail,
            state.InvalidProtobuf,
            state.InvalidGraph,
            state.NotImplemented,
            state.RuntimeException,
        )
        try:
            self._session = onnxruntime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
        except (*refusals, state.InvalidArgument, state.NoSuchFile) as error:
            raise InputError(
                f"onnxruntime {onnxruntime.__version__} cannot open {file}: {error}",
                hint="Check that the file is complete, or export it again.",
            ) from error
        self.input_names = tuple(node.name for node in self._session.get_inputs())
        self._outputs = _main_outputs([node.name for node in self._session.get_outputs()])
        self.limits = _limits(file)
        self._failures = (*refusals, state.InvalidArgument)

    def predict(self, inputs: Arrays) -> NDArray[np.float32]:
        """Main output for int64 inputs (B, S). InputError: one is missing. WorkError: the run failed."""
        try:
            outputs = self._session.run(self._outputs, _pick(inputs, self.input_names))
        except self._failures as error:
            raise WorkError(f"onnxruntime failed on inputs {_shapes(inputs)}: {error}") from error
        result: NDArray[np.float32] = outputs[0] if len(outputs) == 1 else np.stack(outputs, axis=-1)
        return result

    def close(self) -> None:
        """Release the session and its memory."""
        del self._session


def _main_outputs(names: list[str]) -> list[str]:
    """What a file is asked for: one output, or the two of a question answerer."""
    if {"start_logits", "end_logits"} <= set(names):
        return ["start_logits", "end_logits"]
    return [next((name for name in ("logits", "sentence_embedding") if name in names), names[0])]


def _shapes(inputs: Arrays) -> str:
    return ", ".join(f"{name} {array.shape}" for name, array in inputs.items())


class TorchRunner:
    """A model folder in PyTorch on the CPU. Holds the process at ``threads`` threads until it is closed."""

    runtime = "pytorch"

    def __init__(
        self, folder: Path, *, threads: int, trust_remote_code: bool, task: TaskSpec | None = None
    ) -> None:
        import inspect

        import torch

        from compressbert.model.checkpoint import load

        self._torch = torch
        self._model = load(folder, task=task, trust_remote_code=trust_remote_code).eval()
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(threads)
        accepted = inspect.signature(self._model.network.forward).parameters
        self.input_names = tuple(name for name in self._model.tokenizer.model_input_names if name in accepted)
        self.limits = _limits(folder)

    def predict(self, inputs: Arrays) -> NDArray[np.float32]:
        """Main output for int64 inputs (B, S). Raises InputError for a missing input."""
        tensors = {
            name: self._torch.from_numpy(array) for name, array in _pick(inputs, self.input_names).items()
        }
        with self._torch.inference_mode():
            outputs = self._model(**tensors)
        logits = outputs.logits if "logits" in outputs else outputs[0]
        result: NDArray[np.float32] = logits.float().numpy()
        return result

    def close(self) -> None:
        """Release the model and give the threads back."""
        self._torch.set_num_threads(self._threads_before)
        del self._model


class OpenVINORunner:
    """An OpenVINO IR on the CPU: one stream, tuned for latency, fp32 arithmetic where the model is not int8.

    The hint keeps CPUs that have bf16 from using it: an fp32 file is timed and scored as fp32 everywhere.
    """

    runtime = "openvino"

    def __init__(self, file: Path, *, threads: int) -> None:
        try:
            import openvino
        except ImportError as error:
            raise InputError(
                f"{file} needs OpenVINO, which cannot be imported: {error}",
                hint="pip install 'compressbert[openvino]'",
            ) from error
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            self._request = openvino.Core().compile_model(str(file), "CPU", settings).create_infer_request()
        except RuntimeError as error:
            raise InputError(
                f"OpenVINO {openvino.__version__} cannot open {file}: {_last_line(error)}",
                hint="Check that the .xml and its .bin are complete, or export it again.",
            ) from error
        compiled = self._request.get_compiled_model()
        self.input_names = tuple(port.get_any_name() for port in compiled.inputs)
        names = [port.get_any_name() for port in compiled.outputs]
        self._outputs = [names.index(name) for name in _main_outputs(names)]
        self.limits = _limits(file)

    def predict(self, inputs: Arrays) -> NDArray[np.float32]:
        """Main output for int64 inputs (B, S). InputError: one is missing. WorkError: the run failed."""
        try:
            found = self._request.infer(_pick(inputs, self.input_names))
        except RuntimeError as error:
            raise WorkError(f"OpenVINO failed on inputs {_shapes(inputs)}: {_last_line(error)}") from error
        outputs = [found[index] for index in self._outputs]
        result: NDArray[np.float32] = outputs[0] if len(outputs) == 1 else np.stack(outputs, axis=-1)
        return result

    def close(self) -> None:
        """Release the model and its memory."""
        del self._request


def _last_line(error: Exception) -> str:
    """What OpenVINO means: it writes where in its sources first."""
    return (str(error).strip().splitlines() or ["unknown"])[-1]


def open_runner(
    path: Path,
    *,
    threads: int = 1,
    spinning: bool = False,
    trust_remote_code: bool = False,
    task: TaskSpec | None = None,
) -> Runner:
    """Open a model folder (PyTorch), an export folder or an .onnx file (onnxruntime), or an OpenVINO IR.

    An export folder's int8 file is preferred to its fp32 file, ONNX to OpenVINO where both are there. ``task``
    is what a model folder is opened for, where the folder itself does not say: how a sentence encoder pools.
    ``spinning`` lets onnxruntime's threads wait without sleeping; other runtimes know no such thing.
    Raises InputError if there is nothing to open.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(
            f"No model at {path}.", hint="Give a model folder, an export folder, an .onnx or an .xml file."
        )
    file = onnx_file(path)
    if file is not None:
        return OnnxRunner(file, threads=threads, spinning=spinning)
    file = None if (path / "model.safetensors").exists() else openvino_file(path)
    if file is not None:
        return OpenVINORunner(file, threads=threads)
    if path.is_file() or not (path / "config.json").is_file():
        found = (
            path.name
            if path.is_file()
            else ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
        )
        raise InputError(
            f"Expected a model folder (config.json), an export folder (onnx/) or an .onnx file at {path}; "
            f"found {found}.",
            hint="Give the folder that a compressbert step or save_pretrained wrote.",
        )
    return TorchRunner(path, threads=threads, trust_remote_code=trust_remote_code, task=task)

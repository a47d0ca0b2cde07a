"""Exports a model as OpenVINO IR: fp32, and int8 by NNCF's calibration on the user's texts.

Needs the extra ``openvino``. The IR is converted from PyTorch, so that OpenVINO's own attention kernel is used. It
cannot come from the ONNX file written here: OpenVINO 2026.4 mistakes its sequence-first attention for batch-first.
As in the ONNX file, a head that reads only the first token has the last layer compute only that.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compressbert.config.extras import require_extras
from compressbert.config.schema import ExportConfig
from compressbert.errors import ConfigError, WorkError
from compressbert.export import heads
from compressbert.export.blocks import FirstTokenLayer
from compressbert.export.encoder import input_names
from compressbert.export.folder import staging, write_companions
from compressbert.export.metadata import metadata_of
from compressbert.export.parity import Parity
from compressbert.export.probes import Inputs, limits_from_config, limits_of, probe_batches
from compressbert.export.trace import Outputs, output_names
from compressbert.export.variants import Precision
from compressbert.export.write import ExportFacts
from compressbert.model.architectures.text_vectors import BiLSTMModel
from compressbert.model.biased_layers import BiasedFamily
from compressbert.model.families import is_known
from compressbert.model.handle import Model
from compressbert.model.local_layers import LocalFamily

FILES: dict[Precision, str] = {
    "fp32": "openvino_model.xml",
    "int8": "openvino_model_quantized.xml",
}
FP32_LIMIT = 1e-4  # largest |difference| / max(1, |value|) to PyTorch
INT8_LIMIT = 0.5  # root mean square of the difference over that of the values, on calibration texts
_EXACT = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}  # not bf16, where a CPU has it
_CHECKED = 32  # calibration texts the int8 outputs are compared on


def refuse(model: Model) -> None:
    """Raise ConfigError for what cannot become an IR: int8 weights, LSTMs, whose packed texts are not traced, and
    windows, in which OpenVINO gives no number to a token that sees padding alone, and then to no other."""
    if model.is_int8:
        raise ConfigError(
            "This model holds int8 weights for onnxruntime's kernels; OpenVINO quantizes an fp32 model itself.",
            hint="Export the model from before quantization with format: openvino, precision: int8.",
        )
    if isinstance(model.network.base_model, BiLSTMModel):
        raise ConfigError(
            "An LSTM that reads each text to its own end is not converted to an IR.",
            hint="Export it with format: onnx.",
        )
    if is_known(model.network.config.model_type) and isinstance(model.family, LocalFamily):
        raise ConfigError(
            f"Layers of {model.family.name} attend within windows, and OpenVINO gives no numbers where one holds only "
            "padding.",
            hint="Export it with format: onnx.",
        )


def precisions_of(settings: ExportConfig) -> tuple[Precision, ...]:
    """What an OpenVINO export writes: fp32 unless int8 is asked for."""
    if settings.precision == "both":
        return ("fp32", "int8")
    return ("int8",) if settings.precision == "int8" else ("fp32",)


def export_openvino(
    model: Model, folder: Path, settings: ExportConfig, calibration: Sequence[Inputs] | None = None
) -> ExportFacts:
    """Write ``openvino_model.xml`` and/or ``openvino_model_quantized.xml`` with their weights, config and tokenizer.

    Args:
        model: Of any architecture, in fp32. Left as it is.
        folder: Made if it does not exist.
        settings: Precision and lossless speed-ups.
        calibration: Texts as batches of one; needed for int8.

    Raises:
        InputError: An extra is missing.
        ConfigError: An int8 model, or int8 without calibration data.
        WorkError: An IR differs from PyTorch. Nothing is kept then.
    """
    started = time.perf_counter()
    precisions = precisions_of(settings)
    require_extras(settings)
    refuse(model)
    if "int8" in precisions and not calibration:
        raise ConfigError("int8 OpenVINO export needs texts to calibrate on.")
    openvino = _import("openvino")
    network = _traceable(model, settings)
    parity: dict[str, Parity] = {}
    with staging(folder) as stage:
        fp32 = _convert(openvino, network)
        found = _check_fp32(openvino, fp32, model, network)
        if "fp32" in precisions:
            parity["fp32"] = found
            _save(openvino, fp32, stage / FILES["fp32"], model, "fp32")
        if "int8" in precisions:
            int8 = _quantize(fp32, network.inputs, calibration or ())
            parity["int8"] = _check_int8(openvino, fp32, int8, network.inputs, calibration or ())
            _save(openvino, int8, stage / FILES["int8"], model, "int8")
        write_companions(model, stage)
    files: dict[str, Path] = {precision: folder / FILES[precision] for precision in precisions}
    return ExportFacts(files, parity, time.perf_counter() - started, "trace", ())


@dataclass(frozen=True)
class _Traceable:
    """A copy of a model as a function of ``inputs`` that gives ``outputs``, the main one first."""

    module: Outputs
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def _traceable(model: Model, settings: ExportConfig) -> _Traceable:
    """A copy without gradients, its last layer cut to the first token where nothing else is read."""
    copy = model.copy().eval()
    copy.network.requires_grad_(False)
    known = is_known(copy.network.config.model_type)
    inputs = input_names(copy) if known else tuple(
        name for name in ("input_ids", "attention_mask", "token_type_ids") if name in copy.tokenizer.model_input_names
    )  # fmt: skip
    outputs = output_names(copy, _tensors(_example(inputs)))
    head = heads.head_of(copy) if known else None
    cut = settings.optimize and head is not None and head.reads_first_token
    if cut and not isinstance(copy.family, BiasedFamily):
        _cut_last_layer(copy)
    return _Traceable(Outputs(copy, outputs).eval(), inputs, outputs)


def _cut_last_layer(model: Model) -> None:
    """Put a first-token layer in the last one's place; its modules keep names that tell attention from FFN."""
    family, network = model.family, model.network
    parts = family.layers(network)[-1]
    cut = FirstTokenLayer(parts, model.activation)
    cut.attention = nn.ModuleDict(
        {
            "query": parts.query, "key": parts.key, "value": parts.value,
            "output": parts.attention_out, "norm": parts.attention_norm,
        }
    )  # fmt: skip
    cut.intermediate = parts.ffn_in
    cut.output = nn.ModuleDict({"dense": parts.ffn_out, "norm": parts.ffn_norm})
    family.run_blocks(network, [*family.blocks(network)[:-1], cut])


def _example(names: Sequence[str]) -> Inputs:
    """A padded batch: a mask without padding would be traced away."""
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int64)
    values = {"input_ids": 3 * mask, "attention_mask": mask, "token_type_ids": 0 * mask}
    return {name: values[name] for name in names}


def _tensors(batch: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(values) for name, values in batch.items()}


def _import(name: str) -> Any:
    """Import a package of Intel's without the telemetry that it sends by default."""
    os.environ["NNCF_CI"] = "1"
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module(name)


def _convert(openvino: Any, network: _Traceable) -> Any:
    example = tuple(_tensors(_example(network.inputs)).values())
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # torch deprecates tracing, and warns of sizes that become constants
        model = openvino.convert_model(network.module, example_input=example)
    for port, name in zip(model.inputs, network.inputs, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)
    for port, name in zip(model.outputs, network.outputs, strict=True):
        port.get_tensor().set_names({name})
    return model


def _run(
    openvino: Any, model: Any, batches: Sequence[Inputs], names: Sequence[str]
) -> list[list[np.ndarray[Any, Any]]]:
    """Every output of every batch."""
    compiled = openvino.compile_model(model, "CPU", _EXACT)
    return [
        [np.array(value) for value in compiled({name: batch[name] for name in names}).values()]
        for batch in batches
    ]


def _check_fp32(openvino: Any, ir: Any, model: Model, network: _Traceable) -> Parity:
    """Compare with the model as it was given, on the probes of the ONNX export."""
    known = is_known(model.network.config.model_type)
    limits = limits_of(model) if known else limits_from_config(model.network.config.to_dict())
    batches = probe_batches(limits, network.inputs)
    found = _run(openvino, ir, batches, network.inputs)
    original = model if not model.network.training else model.copy().eval()
    worst = 0.0
    for batch, ours in zip(batches, found, strict=True):
        with torch.inference_mode():
            theirs = original(**_tensors(batch))
        for name, values in zip(network.outputs, ours, strict=True):
            worst = max(worst, _difference(batch, values, theirs[name].float().numpy()))
    return Parity(worst, tuple(batch["input_ids"].shape for batch in batches))


def _difference(batch: Inputs, ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> float:
    """The largest |difference| on real tokens; WorkError if an output differs from PyTorch's."""
    if ours.shape != theirs.shape:
        raise WorkError(f"The IR gives outputs of shape {ours.shape}, PyTorch {theirs.shape}.")
    difference = np.abs(ours - theirs)
    relative = difference / np.maximum(1, np.abs(theirs))
    if ours.shape[:2] == batch["attention_mask"].shape:  # padding is nobody's output
        real = batch["attention_mask"] == 1
        difference, relative = difference[real], relative[real]
    if not relative.max() <= FP32_LIMIT:
        raise WorkError(
            f"Parity check failed for the IR on a batch of shape {batch['input_ids'].shape}: outputs differ from "
            f"PyTorch by {relative.max():.3g}, allowed is {FP32_LIMIT:g}. Nothing was kept.",
            hint="Export with format: onnx, and report this with the model's config.json.",
        )
    return float(difference.max())


def _quantize(fp32: Any, names: Sequence[str], calibration: Sequence[Inputs]) -> Any:
    """Post-training quantization: weights per channel, activations by their ranges on ``calibration``."""
    nncf = _import("nncf")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    texts = [{name: batch[name] for name in names} for batch in calibration]
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # its bars
        return nncf.quantize(
            fp32, nncf.Dataset(texts), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(texts)
        )


def _check_int8(
    openvino: Any, fp32: Any, int8: Any, names: Sequence[str], calibration: Sequence[Inputs]
) -> Parity:
    texts = calibration[:_CHECKED]
    found, expected = (_by_output(_run(openvino, ir, texts, names)) for ir in (int8, fp32))
    worst = 0.0
    for ours, theirs in zip(found, expected, strict=True):
        error = float(np.sqrt(np.square(ours - theirs).mean() / max(float(np.square(theirs).mean()), 1e-12)))
        if not error <= INT8_LIMIT:
            raise WorkError(
                f"The int8 IR is off by {error:.2f} of the fp32 outputs' size on the texts it was calibrated on, "
                f"allowed is {INT8_LIMIT:g}. Nothing was kept.",
                hint="Raise export.calibration, or export with format: onnx, whose activations need no calibration.",
            )
        worst = max(worst, float(np.abs(ours - theirs).max()))
    return Parity(worst, tuple(text["input_ids"].shape for text in texts))


def _by_output(answers: Sequence[Sequence[np.ndarray[Any, Any]]]) -> list[np.ndarray[Any, Any]]:
    """All values of each output, over the batches."""
    return [np.concatenate([value.ravel() for value in output]) for output in zip(*answers, strict=True)]


def _save(openvino: Any, ir: Any, file: Path, model: Model, precision: Precision) -> None:
    known = is_known(model.network.config.model_type)
    facts = metadata_of(model, precision=precision, opset=17, known_family=known)
    facts.pop("oldest_onnxruntime")
    for key, value in facts.items():
        ir.set_rt_info(value, ["compressbert", key])
    openvino.save_model(ir, str(file), compress_to_fp16=False)

"""Compares an exported file with the PyTorch model it was written from, before the file is kept.

fp32: outputs must agree to 1e-4 on every real token of every probe batch.

int8: rounding to 8 bits now and then turns a difference in the last bit of a float into a whole step, and
such a step travels through all later layers. Final outputs of two correct runtimes therefore differ by a
sizeable part of the int8 error itself, and a wrong graph could hide behind a bound that wide. So every block
(embeddings, each layer, the head) is compared on its own: PyTorch is given exactly what the file's previous
block wrote. First products then round alike and only rare steps inside one block remain. They move about one
row in a hundred, where a wrong graph moves most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as state

from compressbert.errors import WorkError
from compressbert.export.blocks import replay_blocks
from compressbert.export.encoder import EMBEDDED, layer_output
from compressbert.export.groups import ungrouped
from compressbert.export.probes import MANY, Inputs, Limits, limits_of, probe_batches
from compressbert.model.handle import Model

FP32_LIMIT = 1e-4  # largest |difference| over max(|value|, the outputs' usual size, at most 1)
ROW_LIMIT = 1e-4  # a row of an int8 block agrees if |difference| / |row| is below this
ROWS_AGREEING = 0.6  # this part of a block's rows must agree, in the mean over batches
USUAL_LIMIT = 0.1  # the median row of a batch must be within this: a step in a range moves all, but little
FEW_ROWS = 10  # batches with fewer rows (a head has one a text) are judged together
STRAY_LIMIT = 0.5  # and no row may be further off than this

Array = NDArray[np.float32]

_REFUSALS = (
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.NotImplemented,
    state.RuntimeException,
)


@dataclass(frozen=True)
class Parity:
    """Outcome of a comparison that passed.

    Attributes:
        max_abs_difference: Largest difference of a value of the main output on real tokens between the file and the
            PyTorch model as it is. For int8 it holds rounding steps too, see the module's text, and tells of
            the batch of most texts alone.
        shapes: (batch, sequence) of the inputs compared.
        block_difference: int8 only: largest relative difference of a row, each block given equal inputs.
    """

    max_abs_difference: float
    shapes: tuple[tuple[int, int], ...]
    block_difference: float | None = None


def check(model: Model, onnx_file: Path, *, limits: Limits | None = None) -> Parity:
    """Compare a file with the model it was written from.

    Args:
        model: In evaluation mode.
        onnx_file: The file.
        limits: Of the probes; default: all that a model of a known family accepts, or what an own one says.

    Raises:
        WorkError: They disagree, or onnxruntime cannot open or run the file.
    """
    try:
        return _check(model, onnx_file, limits or limits_of(model))
    except _REFUSALS as error:
        raise WorkError(
            f"onnxruntime {onnxruntime.__version__} cannot run the exported {onnx_file.name}: {error}",
            hint="Please report this with the model's config.json.",
        ) from error


def _check(model: Model, onnx_file: Path, limits: Limits) -> Parity:
    session = _session(str(onnx_file))
    names = [node.name for node in session.get_inputs()]
    outputs = _outputs([node.name for node in session.get_outputs()])
    main = outputs[0]
    batches = probe_batches(limits, names)
    found = [_run_file(session, batch, outputs) for batch in batches]
    # An int8 file is judged block by block; how far it is from the whole model one batch of many texts tells.
    told = [at for at, batch in enumerate(batches) if not model.is_int8 or len(batch["input_ids"]) == MANY]
    expected = [_run_network(model, batches[at], outputs) for at in told]
    block_difference = None
    if model.is_int8:
        alone = [answers[main.key] for answers in found]
        block_difference = _check_blocks(model, onnx_file, batches, main, alone)
    else:
        for key in (output.key for output in outputs):
            ours, theirs = ([answers[key] for answers in side] for side in (found, expected))
            _check_fp32(onnx_file, batches, ours, theirs)
    difference = max(
        _largest_difference(batches[at], found[at][main.key], theirs[main.key])
        for at, theirs in zip(told, expected, strict=True)
    )
    shapes = tuple((batch["input_ids"].shape[0], batch["input_ids"].shape[1]) for batch in batches)
    return Parity(difference, shapes, block_difference)


@dataclass(frozen=True)
class _Output:
    """One output of a model: its key in PyTorch, and the file's outputs that hold it side by side."""

    key: str
    names: tuple[str, ...]

    def joined(self, values: Sequence[Array]) -> Array:
        """The file's outputs as one: starts and ends of answers as (B, S, 2)."""
        return values[0] if len(self.names) == 1 else np.stack(values, axis=-1)


def _outputs(names: Sequence[str]) -> list[_Output]:
    """The main output of a file, then the others."""
    if set(names) == {"start_logits", "end_logits"}:
        return [_Output("logits", ("start_logits", "end_logits"))]
    return [_Output(name, (name,)) for name in names]


def _session(model: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # a refusal is an exception already
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _tensors(model: Model, batch: Inputs) -> dict[str, torch.Tensor]:
    device = model.network.device
    return {name: torch.from_numpy(values).to(device) for name, values in batch.items()}


def _run_file(
    session: onnxruntime.InferenceSession, batch: Inputs, outputs: Sequence[_Output]
) -> dict[str, Array]:
    names = [name for output in outputs for name in output.names]
    values = dict(zip(names, session.run(names, dict(batch)), strict=True))
    return {output.key: output.joined([values[name] for name in output.names]) for output in outputs}


def _run_network(model: Model, batch: Inputs, outputs: Sequence[_Output]) -> dict[str, Array]:
    with torch.inference_mode():
        found = model(**_tensors(model, batch))
        return {output.key: found[output.key].float().cpu().numpy() for output in outputs}


def _largest_difference(batch: Inputs, ours: Array, theirs: Array, floor: float | None = None) -> float:
    """Largest |difference|, over max(|value|, floor) if a floor is given; padding is nobody's output."""
    if ours.shape != theirs.shape:
        raise WorkError(f"The exported file gives outputs of shape {ours.shape}, PyTorch {theirs.shape}.")
    difference = np.abs(ours - theirs)
    if floor is not None:
        difference /= np.maximum(np.abs(theirs), floor)
    difference = _real(batch, difference)
    return float(difference.max()) if np.isfinite(difference).all() else float("inf")


def _real(batch: Inputs, answer: Array) -> Array:
    """An output without what stands at padding, which is nobody's."""
    return answer[batch["attention_mask"] == 1] if answer.ndim == 3 else answer


def _check_fp32(
    onnx_file: Path, batches: Sequence[Inputs], found: Sequence[Array], expected: Sequence[Array]
) -> None:
    usual = float(np.sqrt(np.mean([np.square(values).mean() for values in expected])))
    floor = min(1.0, max(usual, 1e-3))
    for batch, ours, theirs in zip(batches, found, expected, strict=True):
        difference = _largest_difference(batch, ours, theirs, floor)
        if not difference <= FP32_LIMIT:
            raise WorkError(
                f"Parity check failed for {onnx_file.name} on a batch of shape {batch['input_ids'].shape}: "
                f"outputs differ from PyTorch by {difference:.3g} of their size, allowed is {FP32_LIMIT:g}. "
                "Nothing was kept.",
                hint="Please report this with the model's config.json.",
            )


def _check_blocks(
    model: Model, onnx_file: Path, batches: Sequence[Inputs], main: _Output, alone: Sequence[Array]
) -> float:
    """Compare every block of an int8 file on the inputs it had; returns the largest row difference.

    ``alone`` is what the file itself gave: the copy that shows its blocks must give the same.
    """
    layers = len(model.family.layers(model.network))
    blocks = [EMBEDDED, *(layer_output(index) for index in range(layers))]
    inside = ungrouped(onnx.load(str(onnx_file), load_external_data=False))  # a probe is one group
    inside.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in blocks
    )
    copy = onnx_file.with_name(f"{onnx_file.stem}.blocks.onnx")  # beside it, where a sidecar is found
    try:
        onnx.save_model(inside, str(copy))
        session = _session(str(copy))
    finally:
        copy.unlink(missing_ok=True)
    output = main.key
    differences: dict[str, list[Array]] = {name: [] for name in (*blocks, output, "the whole file")}
    for batch, final in zip(batches, alone, strict=True):
        run = session.run([*blocks, *main.names], dict(batch))
        values = [*run[: len(blocks)], main.joined(run[len(blocks) :])]
        replayed = replay_blocks(model, _tensors(model, batch), values[:-1], output)
        values[-1], replayed[-1], whole = (
            _real(batch, answer) for answer in (values[-1], replayed[-1], final)
        )
        for name, ours, theirs in zip([*blocks, output], values, replayed, strict=True):
            differences[name].append(_row_differences(ours, theirs, floor=float(name == output)))
        differences["the whole file"].append(_row_differences(whole, values[-1], floor=1))
    # Embeddings hold no integer product unless they are projected: all their rows must agree.
    exact = EMBEDDED if model.family.embeddings(model.network).projection is None else ""
    for name, parts in differences.items():
        required = 1.0 if name == exact else ROWS_AGREEING
        _check_block(onnx_file, name, parts, required)
    return float(max(part.max() for parts in differences.values() for part in parts))


def _check_block(onnx_file: Path, name: str, parts: Sequence[Array], required: float) -> None:
    judged = parts if min(map(len, parts)) >= FEW_ROWS else [np.concatenate(parts)]
    agreeing = float(np.mean([(rows <= ROW_LIMIT).mean() for rows in judged]))
    usual = float(max(np.median(rows) for rows in judged))
    worst = float(max(rows.max() for rows in parts))
    if not (agreeing >= required and usual <= USUAL_LIMIT and worst <= STRAY_LIMIT):
        raise WorkError(
            f"Parity check failed for {onnx_file.name} at {name}: {agreeing:.0%} of the rows agree "
            f"with PyTorch to {ROW_LIMIT:g}, required are {required:.0%}; the median row of a batch is off by "
            f"{usual:.3g}, allowed is {USUAL_LIMIT:g}; the worst by {worst:.3g}, allowed is {STRAY_LIMIT:g}. "
            "Nothing was kept.",
            hint="Please report this with the model's config.json; export the fp32 model meanwhile.",
        )


def _row_differences(ours: Array, theirs: Array, *, floor: float) -> Array:
    """|difference| / max(|row|, floor) of every row, infinite where something is not finite."""
    ours, theirs = ours.reshape(-1, ours.shape[-1]), theirs.reshape(-1, theirs.shape[-1])
    if ours.shape != theirs.shape:
        raise WorkError(f"The exported file gives a block of shape {ours.shape}, PyTorch {theirs.shape}.")
    size = np.maximum(np.linalg.norm(theirs, axis=1), max(floor, 1e-12))
    relative = np.linalg.norm(ours - theirs, axis=1) / size
    return np.where(np.isfinite(relative), relative, np.inf).astype(np.float32)

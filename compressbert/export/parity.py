"""Compares an exported file with the PyTorch model it was written from, before the file is kept.

fp32: outputs must agree to 1e-4 on every real token of every probe batch.

int8: rounding to 8 bits turns a difference in the last bit of a float into a whole step now and then, and such a step
travels through all later layers, so final outputs of two correct runtimes differ by a sizeable part of the int8 error
itself. A wrong graph could hide behind a bound that wide. Therefore every block (embeddings, each layer, the head) is
compared on its own: PyTorch is given exactly what the file's previous block wrote. Its first products then round
alike, and only rare steps inside one block remain: they move single rows a little, where a wrong graph moves most.
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

from compressbert.errors import WorkError
from compressbert.export.blocks import replay_blocks
from compressbert.export.encoder import EMBEDDED, layer_output
from compressbert.export.probes import Inputs, probe_batches
from compressbert.model.handle import Model

FP32_LIMIT = 1e-4  # largest |difference| / max(1, |value|)
ROW_LIMIT = 1e-4  # a row of an int8 block agrees if |difference| / |row| is below this
ROWS_AGREEING = (
    0.6  # this part of a block's rows must agree: rounding steps move about 1 in 100, a wrong graph most
)
STRAY_LIMIT = 0.5  # and no row may be further off than this

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Parity:
    """Outcome of a comparison that passed.

    Attributes:
        max_abs_difference: Largest difference of any output value on real tokens between file and PyTorch model. For
            int8 it holds rounding steps too; see the module's text.
        shapes: (batch, sequence) of the inputs compared.
        block_difference: int8 only: largest relative difference of a row, each block given equal inputs.
    """

    max_abs_difference: float
    shapes: tuple[tuple[int, int], ...]
    block_difference: float | None = None


def check(model: Model, onnx_file: Path, *, longest: int | None = None) -> Parity:
    """Compare a file with the model it was written from.

    Args:
        model: In evaluation mode.
        onnx_file: The file.
        longest: Length of the longest probe; default: all positions the model's family says it has.

    Raises:
        WorkError: They disagree, or an output is not finite.
    """
    session = _session(str(onnx_file))
    names = [node.name for node in session.get_inputs()]
    output = session.get_outputs()[0].name
    batches = probe_batches(model, names, longest=longest or positions_of(model))
    found = [session.run([output], dict(batch))[0] for batch in batches]
    expected = [_run_network(model, batch, output) for batch in batches]
    difference = _largest_difference(batches, found, expected, relative=False)
    block_difference = None
    if model.is_int8:
        block_difference = _check_blocks(model, onnx_file, batches, output, found)
    else:
        _check_fp32(onnx_file, _largest_difference(batches, found, expected, relative=True))
    shapes = tuple((batch["input_ids"].shape[0], batch["input_ids"].shape[1]) for batch in batches)
    return Parity(difference, shapes, block_difference)


def positions_of(model: Model) -> int:
    """How many tokens the model of a known family can place."""
    embeddings = model.family.embeddings(model.network)
    return int(embeddings.position.num_embeddings) - embeddings.position_offset  # type: ignore[arg-type]


def _session(model: str | bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def _tensors(model: Model, batch: Inputs) -> dict[str, torch.Tensor]:
    device = model.network.device
    return {name: torch.from_numpy(values).to(device) for name, values in batch.items()}


def _run_network(model: Model, batch: Inputs, output: str) -> Array:
    with torch.inference_mode():
        values: Array = model(**_tensors(model, batch))[output].float().cpu().numpy()
    return values


def _largest_difference(
    batches: Sequence[Inputs], found: Sequence[Array], expected: Sequence[Array], *, relative: bool
) -> float:
    largest = 0.0
    for batch, ours, theirs in zip(batches, found, expected, strict=True):
        if ours.shape != theirs.shape:
            raise WorkError(f"The exported file gives outputs of shape {ours.shape}, PyTorch {theirs.shape}.")
        difference = np.abs(ours - theirs)
        if relative:
            difference /= np.maximum(1, np.abs(theirs))
        if difference.ndim == 3:  # per token: padding is nobody's output
            difference = difference[batch["attention_mask"] == 1]
        largest = max(largest, float(difference.max()) if np.isfinite(difference).all() else np.inf)
    return largest


def _check_fp32(onnx_file: Path, difference: float) -> None:
    if not difference <= FP32_LIMIT:
        raise WorkError(
            f"Parity check failed for {onnx_file.name}: outputs differ from PyTorch by {difference:.3g} of "
            f"max(1, |value|), allowed is {FP32_LIMIT:g}. Nothing was kept.",
            hint="Please report this with the model's config.json; export with optimize: false may work meanwhile.",
        )


def _check_blocks(
    model: Model, onnx_file: Path, batches: Sequence[Inputs], output: str, alone: Sequence[Array]
) -> float:
    """Compare every block of an int8 file on the inputs it had; returns the largest relative difference of a row."""
    count = len(model.family.layers(model.network))
    blocks = [EMBEDDED, *(layer_output(index) for index in range(count))]
    inside = onnx.load(str(onnx_file))
    inside.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in blocks
    )
    session = _session(inside.SerializeToString())
    differences: dict[str, list[Array]] = {name: [] for name in (*blocks, output, "file")}
    for batch, final in zip(batches, alone, strict=True):
        values = session.run([*blocks, output], dict(batch))
        replayed = replay_blocks(model, _tensors(model, batch), values[:-1], output)
        for name, ours, theirs in zip([*blocks, output], values, replayed, strict=True):
            differences[name].append(_row_differences(ours, theirs, floor=1.0 if name == output else 0.0))
        differences["file"].append(_row_differences(final, values[-1], floor=1.0))
    exact = () if model.family.embeddings(model.network).projection is not None else (EMBEDDED,)
    rows = {name: np.concatenate(parts) for name, parts in differences.items()}
    for name, block in rows.items():
        _check_block(onnx_file, name, block, required=1.0 if name in exact else ROWS_AGREEING)
    return float(max(block.max() for block in rows.values()))


def _check_block(onnx_file: Path, name: str, rows: Array, *, required: float) -> None:
    """Refuse a block of which too few rows agree. Embeddings hold no integer product, so all of theirs must."""
    agreeing = float((rows <= ROW_LIMIT).mean())
    if not (agreeing >= required and rows.max() <= STRAY_LIMIT):
        raise WorkError(
            f"Parity check failed for {onnx_file.name} at {name}: {agreeing:.0%} of {len(rows)} rows agree with "
            f"PyTorch to {ROW_LIMIT:g}, required are {required:.0%}; the worst is off by {rows.max():.3g}, "
            f"allowed is {STRAY_LIMIT:g}. Nothing was kept.",
            hint="Please report this with the model's config.json; export the fp32 model meanwhile.",
        )


def _row_differences(ours: Array, theirs: Array, *, floor: float) -> Array:
    """|difference| / max(floor, |row|) of every row, infinite where something is not finite."""
    ours, theirs = ours.reshape(-1, ours.shape[-1]), theirs.reshape(-1, theirs.shape[-1])
    if ours.shape != theirs.shape:
        raise WorkError(f"The exported file gives outputs of shape {ours.shape}, PyTorch {theirs.shape}.")
    size = np.maximum(np.linalg.norm(theirs, axis=1), max(floor, 1e-12))
    relative: Array = np.linalg.norm(ours - theirs, axis=1) / size
    return np.where(np.isfinite(relative), relative, np.inf).astype(np.float32)

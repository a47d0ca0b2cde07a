"""Where the time of an .onnx file goes: milliseconds per operator and shape, by onnxruntime's own profiler,
and how many operations a second its products reach (scripts/peak.c prints what a core can do at most).

    python benchmarks/export_profile.py FILE.onnx [FILE.onnx …] [--shapes 1x16 8x128 9,25,49]

A shape is BATCHxLENGTH, or the lengths of the texts of one padded batch. One thread. The profiler costs about two
microseconds a node, so short inputs look slower here than they are.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

WARM_UP, CALLS = 4, 16
NESTING = ("If", "Loop")  # their time is that of the nodes inside
PRODUCTS = (
    "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulInteger", "FusedMatMul", "MatMul", "Gemm",
)  # fmt: skip
RATE = ", TOP/s"


def inputs_of(names: Sequence[str], lengths: Sequence[int]) -> dict[str, NDArray[np.int64]]:
    """Random tokens, padded on the right to the longest."""
    mask = (np.arange(max(lengths)) < np.asarray(lengths)[:, None]).astype(np.int64)
    ids = np.random.default_rng(0).integers(5, 1000, mask.shape) * mask
    made = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {name: made[name] for name in names}


def operations(event: Mapping[str, Any]) -> float:
    """Multiplications and additions of a product whose first factor ends in what is summed over; 0 for other nodes."""
    arguments = event["args"]
    if arguments["op_name"] not in PRODUCTS:
        return 0.0
    first, result = (
        next(iter(arguments[side][0].values())) for side in ("input_type_shape", "output_type_shape")
    )
    return 2.0 * math.prod(result) * first[-1]


def profile(file: Path, lengths: Sequence[int]) -> dict[str, float]:
    """Milliseconds of a call by operator, of the whole under ``total``, and the rates of its products."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.enable_profiling = True
        options.profile_file_prefix = f"{folder}/profile"
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        batch = inputs_of([node.name for node in session.get_inputs()], lengths)
        for _ in range(WARM_UP + CALLS):
            session.run(None, batch)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    runs = [event for event in events if event["name"] == "model_run"][WARM_UP:]
    spent: dict[str, float] = defaultdict(float)
    done: dict[str, float] = defaultdict(float)
    for event in events:
        if event["ts"] >= runs[0]["ts"] and event["name"].endswith("_kernel_time"):
            op = event["args"]["op_name"]
            spent[op] += event["dur"] / CALLS / 1e3
            done[op] += operations(event) / CALLS
    for name in NESTING:
        spent.pop(name, None)
    rates = {f"{op}{RATE}": count / spent[op] / 1e9 for op, count in done.items() if count}
    return dict(spent) | {"total": sum(run["dur"] for run in runs) / CALLS / 1e3} | rates


def table(columns: Mapping[str, Mapping[str, float]], least: float = 0.01) -> str:
    """One row per operator that takes at least this part of some column."""
    names = {name for column in columns.values() for name in column if RATE not in name}
    shown = [name for name in names if any(c.get(name, 0) >= least * c["total"] for c in columns.values())]
    shown.sort(key=lambda name: -max(c.get(name, 0) / c["total"] for c in columns.values()))
    lines = [["ms", *columns], ["---"] * (len(columns) + 1)]
    shown += [f"{name}{RATE}" for name in shown if any(f"{name}{RATE}" in c for c in columns.values())]
    lines += [[name, *(f"{column.get(name, 0):.2f}" for column in columns.values())] for name in shown]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Print one table per file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--shapes", nargs="+", default=["1x16", "1x128", "8x128", "1x512"])
    arguments = parser.parse_args()
    for file in arguments.files:
        columns = {}
        for shape in arguments.shapes:
            batch, _, length = shape.partition("x")
            lengths = [int(length)] * int(batch) if length else [int(part) for part in shape.split(",")]
            name = shape if length else f"{len(lengths)} uneven, {sum(lengths)} tokens"
            columns[name] = profile(file, lengths)
        print(f"{file.name}\n\n{table(columns)}\n")


if __name__ == "__main__":
    main()

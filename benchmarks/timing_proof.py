"""Do the intervals of speed-ups hold? The same file against itself, and against a copy with 5 % more work.

    python benchmarks/timing_proof.py MODEL.onnx --results timing_proof.jsonl [--case same] [--seconds 280]

Cases: `same` and `same-busy` time one file as two candidates, the second while another process burns a core:
the interval must contain 1. `more` and `more-busy` time it against a copy that does an extra product: the interval
must lie below 1. Every run is a measurement of its own, with `--precision` and `--budget-seconds` as users give them.
Runs are appended to the results, so that a call may be short and be repeated; the table counts all of them. Two
calls at a time, with `--seeds` of their own, are each other's neighbour.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from os import kill
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime import InferenceSession

from compressbert.config.schema import BenchmarkSettings
from compressbert.measure.latency import benchmark

WANTED = {"same": 40, "same-busy": 40, "more": 20, "more-busy": 20}
EXTRA = 0.05
# Word pieces of short reviews: the shape of SST-2's validation sentences.
TOKENS = 24  # about their median
LENGTHS = [5, 8, 10, 12, 14, 16, 18, 19, 21, 22, 24, 25, 27, 29, 30, 32, 34, 36, 40, 47] * 8


def with_more_work(source: Path, target: Path, fraction: float) -> None:
    """A copy of ``source`` with one more product, of ``fraction`` of its multiply-accumulates with weights.

    It multiplies the normalised embeddings (the input of the first layer) and enters the output with weight 0.
    """
    model = onnx.load(str(source))
    graph = model.graph
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    first = next(node for node in graph.node if node.op_type.endswith("LayerNormalization"))
    width = weights[first.input[1]][0]
    columns = round(fraction * _work(model, weights) / (TOKENS * width))
    output = graph.output[0].name
    for node in graph.node:
        node.output[:] = [f"{name}.before" if name == output else name for name in node.output]
        node.input[:] = [f"{name}.before" if name == output else name for name in node.input]
    matrix = np.random.default_rng(0).normal(0, 0.02, (width, columns)).astype(np.float32)
    graph.initializer.extend(
        [
            numpy_helper.from_array(matrix, "extra.weight"),
            numpy_helper.from_array(np.zeros(1, np.float32), "extra.zero"),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("MatMul", [first.output[0], "extra.weight"], ["extra.product"]),
            helper.make_node("ReduceMax", ["extra.product"], ["extra.number"], keepdims=0),
            helper.make_node("Mul", ["extra.number", "extra.zero"], ["extra.nothing"]),
            helper.make_node("Add", [f"{output}.before", "extra.nothing"], [output]),
        ]
    )
    onnx.save(model, str(target))


def _work(model: onnx.ModelProto, weights: dict[str, tuple[int, ...]]) -> int:
    """Multiply-accumulates with weights for one text of `TOKENS` tokens, from the shapes that a run gives."""
    products: dict[str, int] = {}
    for node in model.graph.node:
        if "MatMul" in node.op_type or node.op_type == "Gemm":
            for name in node.input:
                if len(weights.get(name, ())) == 2:
                    products[node.output[0]] = int(np.prod(weights[name]))
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in products)
    session = InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    text = np.ones((1, TOKENS), np.int64)
    outputs = session.run(list(products), {node.name: text for node in session.get_inputs()})
    rows = [output.size // output.shape[-1] for output in outputs]
    return sum(size * row for size, row in zip(products.values(), rows, strict=True))


@contextmanager
def neighbour(wanted: bool) -> Iterator[None]:
    """A process that is no child of ours and keeps one core busy."""
    if not wanted:
        yield
        return
    burn = f"{sys.executable} -c 'while True: pass' >/dev/null 2>&1 & echo $!"
    found = subprocess.run(["sh", "-c", burn], capture_output=True, text=True, check=True)
    try:
        yield
    finally:
        kill(int(found.stdout), signal.SIGKILL)


def one_run(case: str, files: dict[str, Path], settings: BenchmarkSettings, seed: int) -> dict[str, Any]:
    """One measurement, as a line of the results."""
    started = time.perf_counter()
    with neighbour(case.endswith("busy")):
        timings = benchmark(files, settings, LENGTHS, seed=seed)[1]
    ratio, conditions = timings.speedup, timings.conditions
    if ratio is None or conditions is None:
        raise SystemExit("The benchmark gave no ratio.")
    facts = {
        "case": case,
        "seed": seed,
        "seconds": time.perf_counter() - started,
        "p50_ms": timings.cells[0].p50_ms,
    }
    return facts | {"ratio": ratio.model_dump(), "conditions": conditions.model_dump()}


def table(lines: list[dict[str, Any]]) -> str:
    """What the runs say, by case."""
    told = [
        f"{'case':10s} {'runs':>4s} {'right':>6s} {'mean ratio':>10s} {'sd':>6s} {'± %: median, most':>17s} "
        f"{'rounds':>6s} {'seconds: median, most':>21s} {'p50 ms':>7s} {'others, cores':>13s}"
    ]
    for case in WANTED:
        runs = [line for line in lines if line["case"] == case]
        if not runs:
            continue
        low, high, value = (
            np.array([run["ratio"][name] for run in runs]) for name in ("low", "high", "value")
        )
        right = (low <= 1) & (high >= 1) if case.startswith("same") else high < 1
        width = 100 * (high - low) / 2 / value
        seconds = np.array([run["seconds"] for run in runs])
        rounds = np.median([run["conditions"]["rounds"] for run in runs])
        p50 = np.median([run["p50_ms"] for run in runs])
        others = np.median([run["conditions"]["other_cores"] for run in runs])
        told.append(
            f"{case:10s} {len(runs):4d} {right.sum():3d}/{len(runs):<2d} {np.exp(np.log(value).mean()):10.4f} "
            f"{np.log(value).std():6.4f} {np.median(width):10.2f}, {width.max():5.2f} {rounds:6.0f} "
            f"{np.median(seconds):12.1f}, {seconds.max():7.1f} {p50:7.2f} {others:13.2f}"
        )
    return "\n".join(told)


def main() -> None:
    """Do runs until the wanted number or the time is reached, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--results", type=Path, default=Path("timing_proof.jsonl"))
    parser.add_argument("--case", choices=tuple(WANTED), action="append", help="default: all")
    parser.add_argument(
        "--seeds", type=int, nargs=2, metavar=("FIRST", "END"), help="which runs; default: all"
    )
    parser.add_argument("--precision", type=float, default=0.03)
    parser.add_argument("--budget-seconds", type=float, default=60.0)
    parser.add_argument(
        "--seconds", type=float, default=280.0, help="time for this call; 0 prints the table only"
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended early"))  # so that the neighbour ends too
    settings = BenchmarkSettings(
        cells=(), precision=arguments.precision, budget_seconds=arguments.budget_seconds
    )
    arguments.results.touch()
    lines = [json.loads(line) for line in arguments.results.read_text().splitlines()]
    end, longest = time.perf_counter() + arguments.seconds, 0.0
    with tempfile.TemporaryDirectory() as scratch:
        heavier = Path(scratch) / "more.onnx"
        with_more_work(arguments.model, heavier, EXTRA)
        for case in arguments.case or WANTED:
            other = arguments.model if case.startswith("same") else heavier
            done = {line["seed"] for line in lines if line["case"] == case}
            first, last = arguments.seeds or (0, WANTED[case])
            for seed in (seed for seed in range(first, last) if seed not in done):
                if time.perf_counter() + longest > end:
                    break
                line = one_run(case, {"a": arguments.model, "b": other}, settings, seed)
                longest = max(longest, line["seconds"])
                lines.append(line)
                with arguments.results.open("a") as results:
                    results.write(json.dumps(line) + "\n")
    print(table([json.loads(line) for line in arguments.results.read_text().splitlines()]))


if __name__ == "__main__":
    main()

"""Times our exported files against those of other exporters, in interleaved workers, and prints one table.

    python benchmarks/export_speed.py MODEL_FOLDER DATA_FOLDER PEERS_FOLDER [--rounds 12] [--only int8]
        [--shapes 1x16 8x128 sst2 …]

Needs the extra ``openvino``. DATA_FOLDER holds sst2/ and mrpc/ with train and validation rows as .jsonl.gz. In
PEERS_FOLDER virtual environments are made for optimum-onnx, Neural Compressor and Olive, which are bound to
older packages, and every peer's files are kept there, so a second run only times. Peers:

- optimum: `optimum-cli export onnx`, and its int8 by `optimum-cli onnxruntime quantize --avx512_vnni
  --per_channel`. Both run in the installed onnxruntime, as ours do.
- Neural Compressor: 2.6, the last that knows ONNX, on that fp32 file (`PostTrainingQuantConfig(approach="dynamic")`).
- Olive: its passes `OrtTransformersOptimization` and `OnnxDynamicQuantization` (per channel) on that fp32 file.
- OpenVINO: that fp32 file quantized by NNCF with 300 rows of SST-2 train (static, preset for transformers).

Every ratio is a file's time over that of our dynamic int8, or our fp32, with its 95 % interval. Our static int8 is
calibrated on the rows that NNCF gets.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import subprocess
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from compressbert import load
from compressbert.config.schema import BenchmarkSettings, ExportConfig
from compressbert.export.calibration import Range, calibrate
from compressbert.export.environments import known, python_of
from compressbert.export.variants import Formats, int8_products
from compressbert.export.write import export_onnx
from compressbert.measure.latency import benchmark
from compressbert.model.handle import Model
from compressbert.results.measured import CandidateTimings, cell_name
from compressbert.results.record import Interval

CELLS = ("1x16", "1x32", "1x128", "8x128", "1x512")
TEXTS = {"sst2": ("sentence",), "mrpc": ("sentence1", "sentence2")}
BATCH = 32  # texts of real lengths in one padded batch
CALIBRATION = 300


def rows(file: Path) -> Iterator[dict[str, str]]:
    """The rows of a .jsonl.gz file."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def lengths_of(data: Path, name: str, tokenizer: Tokenizer) -> list[int]:
    """Token counts of the validation rows."""
    texts = [[row[column] for column in TEXTS[name]] for row in rows(data / name / "validation.jsonl.gz")]
    return [len(tokenizer.encode(*text).ids) for text in texts]


def optimum_files(model: Path, peers: Path) -> dict[str, Path]:
    """optimum's fp32 and int8 files; its environment and the files are made if they are not there."""
    home, fp32, int8 = peers / "optimum", peers / "optimum-fp32", peers / "optimum-int8"
    if not (home / "pyvenv.cfg").is_file():
        venv.create(home, with_pip=True)
        for group in known()["optimum"].packages:
            subprocess.run([python_of(home), "-m", "pip", "install", "--quiet", *group], check=True)
    tool = str(home / "bin" / "optimum-cli")
    if not (fp32 / "model.onnx").is_file():
        task = ["--task", "text-classification"]
        subprocess.run([tool, "export", "onnx", "--model", str(model), *task, str(fp32)], check=True)
    if not (int8 / "model_quantized.onnx").is_file():
        form = ["--avx512_vnni", "--per_channel", "-o", str(int8)]
        subprocess.run([tool, "onnxruntime", "quantize", "--onnx_model", str(fp32), *form], check=True)
    return {"fp32": fp32 / "model.onnx", "int8": int8 / "model_quantized.onnx"}


# Neither starts with what its own metadata asks for: 2.6 needs what newer onnx and setuptools dropped.
PEER_PACKAGES = {
    "neural-compressor": (
        "neural-compressor==2.6", "onnx==1.16.2", "onnxruntime==1.32.0", "transformers==4.57.6", "protobuf<6",
        "setuptools<81", "six==1.17.0",
    ),
    "olive": ("olive-ai==0.13.0", "onnxruntime==1.32.0", "transformers==4.57.6", "requests==2.34.2"),
}  # fmt: skip
NEURAL_COMPRESSOR = """
import sys
from neural_compressor import PostTrainingQuantConfig, quantization
quantization.fit(model=sys.argv[1], conf=PostTrainingQuantConfig(approach="dynamic")).save(sys.argv[2])
"""


def peer_environment(name: str, peers: Path) -> Path:
    """The folder of a peer's virtual environment, made if it is not there; torch first, so the pinned one is taken."""
    home = peers / name
    if not (home / "complete").is_file():
        venv.create(home, with_pip=True, clear=True)
        torch = known()["optimum"].packages[0]
        for group in (torch, (*torch, *PEER_PACKAGES[name])):
            subprocess.run([python_of(home), "-m", "pip", "install", "--quiet", *group], check=True)
        (home / "complete").touch()
    return home


def neural_compressor_file(onnx_file: Path, peers: Path) -> Path:
    """Neural Compressor's dynamic int8 of an fp32 ONNX file."""
    file = peers / "neural-compressor-int8" / "model.onnx"
    if not file.is_file():
        python = python_of(peer_environment("neural-compressor", peers))
        file.parent.mkdir(exist_ok=True)
        words = [python, "-c", NEURAL_COMPRESSOR, str(onnx_file.resolve()), str(file.resolve())]
        subprocess.run(words, check=True, cwd=file.parent)  # it leaves its history in the current folder
        shutil.copy(onnx_file.with_name("config.json"), file.parent)
    return file


def olive_file(onnx_file: Path, model: Path, peers: Path) -> Path:
    """Olive's dynamic int8 of an fp32 ONNX file, its graph fused by onnxruntime's transformers optimizer first."""
    file = peers / "olive-int8" / "model.onnx"
    if file.is_file():
        return file
    home, config = peer_environment("olive", peers), json.loads((model / "config.json").read_text())
    fuse = {"type": "OrtTransformersOptimization", "model_type": "bert", "opt_level": 0}
    fuse |= {"num_heads": config["num_attention_heads"], "hidden_size": config["hidden_size"]}
    cpu = {"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}
    settings = {
        "input_model": {"type": "ONNXModel", "model_path": str(onnx_file.resolve())},
        "systems": {"here": {"type": "LocalSystem", "accelerators": [cpu]}},
        "target": "here",
        "passes": {"fuse": fuse, "quantize": {"type": "OnnxDynamicQuantization", "per_channel": True}},
        "cache_dir": str((peers / "olive-cache").resolve()),
        "output_dir": str(file.parent.resolve()),
        "evaluate_input_model": False,
    }
    recipe = peers / "olive.json"
    recipe.write_text(json.dumps(settings, indent=2))
    words = [str(home / "bin" / "olive"), "run", "--config", str(recipe), "--disable_telemetry"]
    subprocess.run(words, check=True)
    shutil.copy(model / "config.json", file.parent)
    return file


def openvino_file(
    onnx_file: Path, model: Path, texts: Sequence[str], tokenizer: Tokenizer, peers: Path
) -> Path:
    """The int8 IR that NNCF makes of an fp32 ONNX file, calibrated on ``texts``."""
    import nncf
    import openvino

    file = peers / "openvino-int8" / "openvino_model.xml"
    if file.is_file():
        return file
    read = openvino.Core().read_model(str(onnx_file))
    names = [port.get_any_name() for port in read.inputs]

    def inputs(text: str) -> dict[str, np.ndarray]:
        found = tokenizer.encode(text)
        made = {
            "input_ids": found.ids,
            "attention_mask": found.attention_mask,
            "token_type_ids": found.type_ids,
        }
        return {name: np.array([made[name]], np.int64) for name in names}

    quantized = nncf.quantize(
        read,
        nncf.Dataset(list(texts), inputs),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(texts),
    )
    openvino.save_model(quantized, str(file), compress_to_fp16=False)
    shutil.copy(model / "config.json", file.parent)
    return file


def calibrated(model: Model, texts: Sequence[str]) -> dict[str, Range]:
    """Ranges of activations on ``texts``, for our static int8."""
    batches = ({name: np.array([ids]) for name, ids in model.tokenizer(text).items()} for text in texts)
    return calibrate(model, int8_products(model), batches)


def tokenizer_of(model: Path) -> Tokenizer:
    """The model's tokenizer; texts are cut to what the model reads, and not padded."""
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(512)
    return tokenizer


def fp32_files(model: Path, data: Path, peers: Path) -> dict[str, Path]:
    """Our fp32 file first, then the peer's."""
    ours = export_onnx(load(model).eval(), peers / "ours-fp32", ExportConfig(precision="fp32")).files
    return {"ours fp32": ours["fp32"], "optimum fp32": optimum_files(model, peers)["fp32"]}


def int8_files(model: Path, data: Path, peers: Path) -> dict[str, Path]:
    """Our dynamic int8 file first, then our static one, then the peers'."""
    train = [row["sentence"] for row in rows(data / "sst2" / "train.jsonl.gz")]
    texts = train[:: len(train) // CALIBRATION][:CALIBRATION]
    network = load(model).eval()
    ours = export_onnx(network, peers / "ours", ExportConfig(precision="int8")).files
    static = export_onnx(
        network,
        peers / "ours-static",
        ExportConfig(precision="int8", activations="static"),
        formats=Formats(ranges=calibrated(network, texts)),
    ).files
    optimum = optimum_files(model, peers)
    return {
        "ours int8": ours["int8"],
        "ours int8 static": static["int8"],
        "optimum int8": optimum["int8"],
        "Neural Compressor int8": neural_compressor_file(optimum["fp32"], peers),
        "Olive int8": olive_file(optimum["fp32"], model, peers),
        "OpenVINO int8": openvino_file(optimum["fp32"], model, texts, tokenizer_of(model), peers),
    }


GROUPS = {"int8": int8_files, "fp32": fp32_files}


def timed(
    files: dict[str, Path], lengths: dict[str, list[int]], shapes: Sequence[str], rounds: int
) -> list[tuple[str, list[CandidateTimings]]]:
    """Timings of one group: of the fixed shapes, under "", and of padded batches under the name of their data."""
    cells = tuple(
        (int(batch), int(length))
        for batch, _, length in (shape.partition("x") for shape in shapes if shape in CELLS)
    )
    found = []
    if cells:
        found.append(("", benchmark(files, BenchmarkSettings(rounds=rounds, cells=cells))))
    for name in (shape for shape in shapes if shape in lengths):
        settings = BenchmarkSettings(rounds=rounds, cells=(), data_batch=BATCH, sentences=16)
        found.append((name, benchmark(files, settings, lengths[name])))
    return found


def table(groups: dict[str, list[tuple[str, list[CandidateTimings]]]]) -> str:
    """One row per shape: our milliseconds, and how many times as long each peer takes."""
    header, body = ["shape"], {}
    for found in groups.values():
        first, *peers = found[0][1]
        header += [f"{first.name}, ms", *(f"{peer.name} takes" for peer in peers)]
        for data, timings in found:
            for cell in timings[0].cells:
                key = cell_name(cell.batch, cell.length)
                if cell.length is None and cell.batch == 1:
                    continue
                label = f"{cell.batch} of {data}'s lengths" if cell.length is None else key
                values = [f"{cell.p50_ms:.2f}", *(ratio(peer, timings[0], key) for peer in timings[1:])]
                body.setdefault(label, []).extend(values)
    lines = [header, ["---"] * len(header), *([label, *values] for label, values in body.items())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def ratio(peer: CandidateTimings, ours: CandidateTimings, cell: str) -> str:
    """``1.52× [1.49, 1.55]``: the peer's time over ours."""
    speed: Interval = peer.speedup_by_cell[cell]  # of the peer against ours, the baseline
    return f"{1 / speed.value:.2f}× [{1 / speed.high:.2f}, {1 / speed.low:.2f}]"


def main() -> None:
    """Set up, export, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("peers", type=Path)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--only", choices=["int8", "fp32"])
    parser.add_argument("--shapes", nargs="+", choices=[*CELLS, *TEXTS], default=[*CELLS, *TEXTS])
    arguments = parser.parse_args()
    arguments.peers.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer_of(arguments.model)
    lengths = {name: lengths_of(arguments.data, name, tokenizer) for name in TEXTS}
    found = {}
    for name, files_of in GROUPS.items():
        if arguments.only in (None, name):
            files = files_of(arguments.model, arguments.data, arguments.peers)
            found[name] = timed(files, lengths, arguments.shapes, arguments.rounds)
    print(table(found))
    conditions = next(iter(found.values()))[0][1][0].conditions
    if conditions is not None:
        print(
            f"\none thread, {conditions.rounds} rounds, other processes held {conditions.other_cores:.2f} cores"
        )


if __name__ == "__main__":
    main()

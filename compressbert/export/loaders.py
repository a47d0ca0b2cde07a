"""The programs that open what compressbert writes, and how each is asked: one process per loader and artefact."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from compressbert.errors import CompressbertError
from compressbert.export import environments
from compressbert.export.probes import Inputs
from compressbert.model import architectures, checkpoint, remote_code

Array = NDArray[np.float32]
Text = tuple[str, ...]  # one text, or two of a pair

SCRIPTS = Path(__file__).resolve().parent / "loader_scripts"
_SECONDS = 300  # a loader that takes longer has hung
_TAIL_LINES = 3


class Absent(Exception):
    """A loader that is not installed; the text says how to get it."""


class Unfit(Exception):
    """An artefact that says itself that it is not for this loader; the text says what is."""


class Failed(Exception):
    """A loader that did not open or run the artefact; the text says why."""


@dataclass(frozen=True)
class Answers:
    """What a loader gave.

    Attributes:
        outputs: Every output by its name, for every batch.
        tokens: Token ids of every text, if the loader brings a tokenizer.
        version: Of the loader.
    """

    outputs: list[dict[str, Array]]
    tokens: list[list[int]] | None = None
    version: str = ""


@dataclass(frozen=True)
class Loader:
    """A program that opens artefacts.

    Attributes:
        name: As shown to people.
        run: Answers for an artefact, batches and texts; raises `Absent`, `Unfit` or `Failed`.
    """

    name: str
    run: Callable[[Path, Sequence[Inputs], Sequence[Text]], Answers]


def _ask(
    command: Sequence[str], artefact: Path, batches: Sequence[Inputs], texts: Sequence[Text], *options: str
) -> Answers:
    """Run a loader's script in a process of its own.

    Raises:
        Failed: It ended with an error, gave no answer in time or no readable one.
    """
    with tempfile.TemporaryDirectory() as scratch:
        inputs, outputs = Path(scratch) / "inputs.safetensors", Path(scratch) / "outputs.safetensors"
        flat = {f"{i:04}.{key}": value for i, batch in enumerate(batches) for key, value in batch.items()}
        save_file(flat, inputs, metadata={"texts": json.dumps(texts)})
        words = [*command, str(artefact.resolve()), str(inputs), str(outputs), *options]
        quiet = {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(Path(scratch) / "modules")}
        try:
            done = subprocess.run(
                words, cwd=scratch, env=os.environ | quiet, timeout=_SECONDS, check=False,
                capture_output=True, text=True, errors="replace",
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise Failed(f"gave no answer in {_SECONDS} s") from error
        except OSError as error:
            raise Failed(f"{command[0]} cannot be started: {error.strerror}") from error
        if done.returncode:
            raise Failed(_reason(done.stderr, done.returncode))
        try:
            return _read(outputs)
        except (OSError, SafetensorError, TypeError, KeyError) as error:
            raise Failed(f"left no readable answer: {error}") from error


def _reason(stderr: str, code: int) -> str:
    """The end of what a failed process said: the exception, without the traceback before it."""
    lines = [line.rstrip() for line in stderr.splitlines() if line.strip()]
    frames = [index for index, line in enumerate(lines) if line.startswith("  ")]
    said = lines[frames[-1] + 1 :][:_TAIL_LINES] if frames else []
    tail = "\n".join(said or lines[-_TAIL_LINES:])
    if code < 0:
        return f"ended by signal {-code}" + (f": {tail}" if tail else "")
    return tail or f"ended with {code}"


def _read(file: Path) -> Answers:
    with safe_open(str(file), "np") as answers:
        names = sorted(answers.keys())
        version = (answers.metadata() or {}).get("version", "")
        outputs: dict[str, dict[str, Array]] = {}
        for batch, _, output in (name.partition(".") for name in names if not name.startswith("text.")):
            outputs.setdefault(batch, {})[output] = answers.get_tensor(f"{batch}.{output}")
        tokens = [answers.get_tensor(name).tolist() for name in names if name.startswith("text.")]
    return Answers([outputs[batch] for batch in sorted(outputs)], tokens or None, version)


def _python(script: str, package: str, environment: str) -> list[str]:
    """The command of a Python loader: in its own environment, or in this one where the package is installed."""
    folder = environments.find(environment) if environment else None
    if folder is not None:
        interpreter = environments.python_of(folder)
    elif package and _installed(package):
        interpreter = sys.executable
    else:
        hint = environments.how_to_get(environment) if environment else f"pip install {package}"
        raise Absent(f"{package or environment} is not installed; {hint}")
    return [interpreter, "-P", str(SCRIPTS / script)]


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # the parent of a dotted name is missing
        return False


def _compressbert(folder: Path, batches: Sequence[Inputs], texts: Sequence[Text]) -> Answers:
    try:
        model = checkpoint.load(folder)
    except CompressbertError as error:
        raise Failed(_first_line(error)) from error
    given = ("input_ids", "attention_mask", "token_type_ids")
    accepted = inspect.signature(model.network.forward).parameters
    answers = []
    for batch in batches:
        with torch.inference_mode():
            found = model.network(
                **{name: torch.from_numpy(batch[name]) for name in given if name in accepted}
            )
        answers.append(
            {name: value.float().numpy() for name, value in found.items() if isinstance(value, torch.Tensor)}
        )
    return Answers(answers, [list(model.tokenizer(*text)["input_ids"]) for text in texts])


def _transformers(folder: Path, batches: Sequence[Inputs], texts: Sequence[Text]) -> Answers:
    config = read_config(folder)
    own_code = bool(config.get("auto_map"))
    if own_code:
        _require_known_code(folder)
        with_head = [key for key in config["auto_map"] if key not in ("AutoConfig", "AutoModel")]
        name = with_head[0] if with_head else "AutoModel"
    else:
        name = (config.get("architectures") or ["AutoModel"])[0]
    command = _python("transformers_script.py", "transformers", "")
    return _ask(command, folder, batches, texts, name, "yes" if own_code else "no")


def _require_known_code(folder: Path) -> None:
    """Code in a folder runs only if it is what this package writes for the model in it."""
    try:
        network = checkpoint.load(folder).network
    except CompressbertError as error:
        raise Failed(_first_line(error)) from error
    file = folder / remote_code.FILE
    expected = remote_code.code_of(network)
    if not file.is_file() or expected is None or file.read_text(encoding="utf-8") != expected.text:
        raise Failed(f"{remote_code.FILE} is not what this version writes for this model, so it was not run")


def _onnxruntime(file: Path, batches: Sequence[Inputs], texts: Sequence[Text]) -> Answers:
    return _ask(_python("onnxruntime_script.py", "onnxruntime", ""), file, batches, texts)


def _oldest_onnxruntime(file: Path, batches: Sequence[Inputs], texts: Sequence[Text]) -> Answers:
    command = _python("onnxruntime_script.py", "", "onnxruntime-oldest")
    wanted, oldest = _metadata(file).get("oldest_onnxruntime", ""), environments.oldest_onnxruntime()
    if wanted and _version(wanted) > _version(oldest):
        raise Unfit(f"the file says that it needs onnxruntime {wanted}; this is {oldest}")
    return _ask(command, file, batches, texts)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])


def _openvino(file: Path, batches: Sequence[Inputs], texts: Sequence[Text]) -> Answers:
    command = _python("openvino_script.py", "openvino", "openvino")
    if file.suffix == ".onnx" and _has_strided_products(file):
        raise Unfit("OpenVINO misreads this file's fused products; export with format: openvino")
    return _ask(command, file, batches, texts)


def _metadata(file: Path) -> dict[str, str]:
    """What an .onnx file says about itself; empty for a damaged one, which its loaders will report."""
    try:
        model = onnx.load(str(file), load_external_data=False)
    except DecodeError:
        return {}
    return {entry.key: entry.value for entry in model.metadata_props}


def _has_strided_products(file: Path) -> bool:
    """Whether a graph reads batches across the rows of a product, which OpenVINO 2026.4 gets wrong, up to a crash."""
    try:
        graph = onnx.load(str(file), load_external_data=False).graph
    except DecodeError:
        return False
    return any(
        node.op_type == "FusedMatMul"
        and any(attribute.name.startswith("transBatch") for attribute in node.attribute)
        for node in _all_nodes(graph)
    )


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _all_nodes(attribute.g)


def _optimum(file: Path, batches: Sequence[Inputs], texts: Sequence[Text]) -> Answers:
    home = home_of(file)
    _require_stock(home)
    command = _python("optimum_script.py", "optimum.onnxruntime", "optimum")
    inside = file.relative_to(home).as_posix()
    return _ask(command, home, batches, texts, f"ORTModel{_kind_of(home)}", inside)


_JS_DTYPES = {"model.onnx": "fp32", "model_quantized.onnx": "q8"}  # the file names transformers.js asks for


def _transformers_js(file: Path, batches: Sequence[Inputs], texts: Sequence[Text]) -> Answers:
    if file.parent.name != "onnx" or file.name not in _JS_DTYPES:
        raise Unfit("transformers.js reads onnx/model.onnx (fp32) and onnx/model_quantized.onnx (q8)")
    home = home_of(file)
    _require_stock(home)
    folder = environments.find("transformers.js")
    if folder is None:
        raise Absent(f"not installed; {environments.how_to_get('transformers.js')}")
    node = shutil.which("node")
    if node is None:
        raise Absent("node is not on PATH; install Node.js 20")
    name = f"AutoModel{_kind_of(home).replace('ForFeatureExtraction', '')}"
    command = [node, str(SCRIPTS / "transformers_js_script.mjs")]
    return _ask(command, home, batches, texts, name, _JS_DTYPES[file.name], str(folder))


_HEADS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMaskedLM")


def _kind_of(home: Path) -> str:
    """The end of the auto class of the model, by the class its config names."""
    name = (read_config(home).get("architectures") or [""])[0]
    return next((end for end in _HEADS if name.endswith(end)), "ForFeatureExtraction")


def home_of(file: Path) -> Path:
    """The folder with the config of a file: the nearest of the four above it, else its own."""
    return next((place for place in file.parents[:4] if (place / "config.json").is_file()), file.parent)


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's `config.json`; empty without one. Raises `Failed` if it is not JSON."""
    file = folder / "config.json"
    if not file.is_file():
        return {}
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Failed(f"config.json is not JSON: {error}") from error
    return config


def _require_stock(home: Path) -> None:
    """These loaders ask transformers, or a port of it, what the config means."""
    model_type = str(read_config(home).get("model_type"))
    if architectures.is_own(model_type):
        raise Unfit(f"transformers has no {model_type}; open the file with onnxruntime")


def _first_line(error: Any) -> str:
    return re.split(r"[\r\n]", str(error).strip(), maxsplit=1)[0] or type(error).__name__


MODEL_FOLDER = (Loader("compressbert", _compressbert), Loader("transformers", _transformers))
ONNX_FILE = (
    Loader("onnxruntime", _onnxruntime),
    Loader("oldest onnxruntime", _oldest_onnxruntime),
    Loader("optimum", _optimum),
    Loader("openvino", _openvino),
    Loader("transformers.js", _transformers_js),
)
OPENVINO_FILE = (Loader("openvino", _openvino),)

"""The programs that open what compressbert writes, and how each is asked."""

from __future__ import annotations

import inspect
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

from compressbert.errors import CompressbertError
from compressbert.export import environments
from compressbert.export.graph import every_node
from compressbert.export.loader_process import SCRIPTS, Absent, Answers, Failed, Text, Unfit, ask, python
from compressbert.export.probes import Inputs
from compressbert.model import architectures, checkpoint, pooling, remote_code


@dataclass(frozen=True)
class Loader:
    """A program that opens artefacts.

    Attributes:
        name: As shown to people.
        run: Answers for an artefact, batches and texts; raises `Absent`, `Unfit` or `Failed`.
        embeds: Whether it opens sentence encoders only. The one that does takes a text's first token where others
            take its first position, so texts padded on the left are not compared with it.
    """

    name: str
    run: Callable[[Path, Sequence[Inputs], Sequence[Text]], Answers]
    embeds: bool = False


def _compressbert(folder: Path, batches: Sequence[Inputs], texts: Sequence[Text]) -> Answers:
    try:
        model = checkpoint.load(folder)
    except CompressbertError as error:
        raise Failed(_first_line(error)) from error
    given = ("input_ids", "attention_mask", "token_type_ids")
    accepted = inspect.signature(model.network.forward).parameters
    answers = []
    for batch in batches:
        inputs = {name: torch.from_numpy(batch[name]) for name in given if name in accepted}
        with torch.inference_mode():
            found = model.network(**inputs)
            if model.pooling is not None:
                found["sentence_embedding"] = model.pooling(
                    found.last_hidden_state, torch.from_numpy(batch["attention_mask"])
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
    command = python("transformers_script.py", "transformers", "")
    return ask(command, folder, batches, texts, name, "yes" if own_code else "no")


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
    return ask(python("onnxruntime_script.py", "onnxruntime", ""), file, batches, texts)


def _oldest_onnxruntime(file: Path, batches: Sequence[Inputs], texts: Sequence[Text]) -> Answers:
    command = python("onnxruntime_script.py", "", "onnxruntime-oldest")
    wanted, oldest = _metadata(file).get("oldest_onnxruntime", ""), environments.oldest_onnxruntime()
    if wanted and _version(wanted) > _version(oldest):
        raise Unfit(f"the file says that it needs onnxruntime {wanted}; this is {oldest}")
    return ask(command, file, batches, texts)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])


def _openvino(file: Path, batches: Sequence[Inputs], texts: Sequence[Text]) -> Answers:
    command = python("openvino_script.py", "openvino", "openvino")
    if file.suffix == ".onnx" and _has_strided_products(file):
        raise Unfit(
            "OpenVINO does not run this file's fast forms; export with format: openvino, or with optimize: false"
        )
    return ask(command, file, batches, texts)


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
        for node in every_node(graph)
    )


def _optimum(file: Path, batches: Sequence[Inputs], texts: Sequence[Text]) -> Answers:
    """ORTModel for an .onnx file, OVModel for an IR."""
    home = home_of(file)
    _require_stock(home)
    command = python("optimum_script.py", "", "optimum")
    prefix = "ORTModel" if file.suffix == ".onnx" else "OVModel"
    inside = file.relative_to(home).as_posix()
    return ask(command, home, batches, texts, f"{prefix}{_kind_of(home)}", inside)


def _sentence_transformers(artefact: Path, batches: Sequence[Inputs], texts: Sequence[Text]) -> Answers:
    """A model folder in PyTorch, a file through optimum."""
    home = artefact if artefact.is_dir() else home_of(artefact)
    _require_stock(home)
    if artefact.is_dir() and read_config(home).get("auto_map"):
        raise Unfit("this environment holds transformers 4, and the folder's code is for transformers 5")
    command = python("sentence_transformers_script.py", "", "optimum")
    backend = {".onnx": "onnx", ".xml": "openvino"}.get(artefact.suffix, "torch")
    inside = "" if artefact.is_dir() else artefact.relative_to(home).as_posix()
    return ask(command, home, batches, texts, backend, inside)


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
    return ask(command, home, batches, texts, name, _JS_DTYPES[file.name], str(folder))


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


_SENTENCES = Loader("sentence-transformers", _sentence_transformers, embeds=True)
_MODEL_FOLDER = (Loader("compressbert", _compressbert), Loader("transformers", _transformers), _SENTENCES)
_ONNX_FILE = (
    Loader("onnxruntime", _onnxruntime),
    Loader("oldest onnxruntime", _oldest_onnxruntime),
    Loader("optimum", _optimum),
    Loader("openvino", _openvino),
    Loader("transformers.js", _transformers_js),
    _SENTENCES,
)
_OPENVINO_FILE = (Loader("openvino", _openvino), Loader("optimum-intel", _optimum), _SENTENCES)


def loaders_of(artefact: Path, home: Path) -> list[Loader]:
    """Who opens a model folder, an .onnx file or an IR whose config lies in ``home``; the first is the reference."""
    tried: tuple[Loader, ...] = _OPENVINO_FILE
    if artefact.is_dir() or artefact.suffix == ".onnx":
        tried = _MODEL_FOLDER if artefact.is_dir() else _ONNX_FILE
    embeds = (home / pooling.MODULES).is_file()
    return [loader for loader in tried if embeds or not loader.embeds]

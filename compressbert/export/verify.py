"""Opens an artefact in every loader that is there and compares what they answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
from tokenizers import Tokenizer

from compressbert.errors import InputError
from compressbert.export import layouts
from compressbert.export.agreement import agreement, odd_output, odd_tokens
from compressbert.export.graph import every_node
from compressbert.export.loader_process import Absent, Answers, Failed, Text, Unfit
from compressbert.export.loaders import home_of, loaders_of, read_config
from compressbert.export.probes import Inputs, limits_from_config, probe_batches

Status = Literal["ok", "failed", "absent", "unfit"]

# What tokenizers disagree on: case, accents, scripts without spaces, punctuation, unknown signs, pairs.
TEXTS: tuple[Text, ...] = (
    ("The film was good.",),
    ("Ünïcode – a naïve CAFÉ, 第一 部!",),
    ("don't #hashtag\t42.5%  ☃",),
    ("A man is eating.", "Someone eats food."),
    ("", "only the second"),
)


@dataclass(frozen=True)
class LoaderCheck:
    """What one loader did with one artefact.

    Attributes:
        loader: Its name; with the file's name where a folder holds several.
        status: ok, failed (did not open, or answered differently), absent (not installed), or unfit (not meant
            for this loader, and says so).
        max_difference: Largest |difference| / max(1, |value|) to the first loader of the artefact, on real tokens;
            for int8 files the root mean square of the differences over that of the values. None for the first
            loader and for those that gave nothing.
        detail: The loader's version, or a reason.
    """

    loader: str
    status: Status
    max_difference: float | None
    detail: str


def verify(folder: Path) -> list[LoaderCheck]:
    """Open a model folder, an export folder, an .onnx file or an IR in every loader present.

    Every loader but compressbert itself runs in a process of its own, where need be in an environment of its own
    (`environments.py`). Code in a model folder runs only if it is exactly what this package writes. Servers are
    not run: their rules about names and files are checked, which the loader's name says (layout).

    Raises:
        InputError: There is nothing to open.
    """
    folder = Path(folder)
    checks = [*_model_folder(folder), *_graph_files(folder), *_servers(folder)]
    if all(check.status == "unfit" for check in checks):
        raise InputError(
            f"There is neither a model nor an .onnx or OpenVINO file in {folder}.",
            hint="Give a model folder, an export folder or an .onnx file.",
        )
    return checks


def _model_folder(folder: Path) -> list[LoaderCheck]:
    if not (folder / "config.json").is_file() or not list(folder.glob("model*.safetensors")):
        return []
    return _compare(folder, folder, "", int8=False)


def _graph_files(folder: Path) -> Iterator[LoaderCheck]:
    """Checks of every .onnx file and IR of a folder, or of the one file given."""
    patterns = ("onnx/*.onnx", "*.onnx", f"{layouts.REPOSITORY}/*/*/*.onnx", "openvino_model*.xml")
    files = (
        [folder] if folder.is_file() else [path for glob in patterns for path in sorted(folder.glob(glob))]
    )
    for file in files:
        label = f" ({file.name})" if len(files) > 1 else ""
        yield from _compare(file, home_of(file), label, int8=_is_int8(file))


def _servers(folder: Path) -> Iterator[LoaderCheck]:
    """Layout rules of servers, for folders that are exports."""
    if folder.is_file():
        return
    target = _target(folder)
    repository = folder / layouts.REPOSITORY
    if list(folder.glob("*.onnx")) or list(folder.glob("onnx/*.onnx")):
        yield _layout(
            "text-embeddings-inference", lambda: layouts.tei_problems(folder), meant=target == "tei"
        )
    if repository.is_dir():
        yield _layout("triton", lambda: layouts.triton_problems(repository), meant=True)
    elif target == "triton":
        yield LoaderCheck("triton (layout)", "failed", None, f"{layouts.REPOSITORY}/ is missing")


def _layout(name: str, problems: Callable[[], list[str]], *, meant: bool) -> LoaderCheck:
    try:
        found = problems()
    except (DecodeError, ValueError) as error:  # a damaged .onnx, JSON that is none
        return LoaderCheck(f"{name} (layout)", "failed", None, f"unreadable: {error}")
    if not found:
        return LoaderCheck(f"{name} (layout)", "ok", None, "names, files and tensors; no server was run")
    return LoaderCheck(f"{name} (layout)", "failed" if meant else "unfit", None, "\n".join(found))


def _target(folder: Path) -> str:
    """What an export says it was made for."""
    file = folder / "result.json"
    if not file.is_file():
        return ""
    export = json.loads(file.read_text(encoding="utf-8")).get("config", {}).get("export", {})
    return str(export.get("target", ""))


def _is_int8(file: Path) -> bool:
    if file.suffix != ".onnx":
        return b'type="FakeQuantize"' in file.read_bytes()
    try:
        graph = onnx.load(str(file), load_external_data=False).graph
    except DecodeError:
        return False  # damaged: the loaders will say so
    integer = (
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul",
        "QLinearMatMul",
        "QuantizeLinear",
    )
    return any(node.op_type in integer for node in every_node(graph))


def _probes(home: Path) -> list[Inputs]:
    names = ("input_ids", "attention_mask", "token_type_ids")
    return probe_batches(limits_from_config(read_config(home)), names)[:-1]  # the longest adds nothing here


def _reference_tokens(home: Path) -> list[list[int]] | None:
    """Token ids of the texts by the folder's own `tokenizer.json`; None where there is none."""
    file = home / "tokenizer.json"
    if not file.is_file():
        return None
    tokenizer = Tokenizer.from_file(str(file))
    return [tokenizer.encode(text[0], text[1] if len(text) > 1 else None).ids for text in TEXTS]


def _compare(path: Path, home: Path, label: str, *, int8: bool) -> list[LoaderCheck]:
    try:
        batches = _probes(home)
    except Failed as reason:
        raise InputError(f"{home}: {reason}", hint="Restore the folder's config.json.") from reason
    tokens = _reference_tokens(home)
    checks: list[LoaderCheck] = []
    first: Answers | None = None
    for loader in loaders_of(path, home):
        name = loader.name + label
        try:
            answers = loader.run(path, batches, TEXTS if tokens else ())
        except Absent as reason:
            checks.append(LoaderCheck(name, "absent", None, str(reason)))
        except Unfit as reason:
            checks.append(LoaderCheck(name, "unfit", None, str(reason)))
        except Failed as reason:
            checks.append(LoaderCheck(name, "failed", None, str(reason)))
        else:
            problem = odd_output(answers) or odd_tokens(answers, tokens, TEXTS)
            difference = None
            if first is not None and not problem:
                difference, problem = agreement(answers, first, batches, int8=int8, left=not loader.embeds)
            elif not problem:
                first = answers
            status: Status = "failed" if problem else "ok"
            checks.append(LoaderCheck(name, status, difference, problem or answers.version))
    return checks

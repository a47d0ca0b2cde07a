"""Keys of steps: two runs with the same key do the same work, so the second one may be skipped or resumed.

A key covers the resolved settings, the content of the input model, the content of the data files, the code that does
the work and the schema number. It needs no torch, so a finished pipeline is recognised in a moment.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from compressbert.config.names import may_be_on_hub
from compressbert.config.schema import DataConfig
from compressbert.errors import InputError
from compressbert.results.hashing import sha256_file, sha256_folder, sha256_json
from compressbert.results.record import SCHEMA_VERSION

PACKAGE = Path(__file__).resolve().parent.parent

# What a step's result depends on besides its settings and inputs.
CODE = {
    "finetune": ("data", "tasks", "model", "nn", "train"),
    "compress": (
        "data",
        "tasks",
        "model",
        "nn",
        "train",
        # what methods share, but not the list of methods: a new one leaves the others' results as they are
        *sorted(
            f"methods/{file.name}" for file in PACKAGE.glob("methods/*.py") if file.name != "registry.py"
        ),
    ),
    "export": ("model", "nn/int8.py", "export"),
    "measure": ("measure", "tasks", "pipeline/steps/compare.py"),
}


def code_sha(parts: Iterable[str]) -> str:
    """Return one hash over the source of the package's ``parts`` (folders or files)."""
    sources: dict[str, str] = {}
    for part in parts:
        path = PACKAGE / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            sources[str(file.relative_to(PACKAGE))] = sha256_file(file)
    return sha256_json(sources)


def data_fingerprint(data: DataConfig | None) -> dict[str, str]:
    """Return what identifies the data: the hashes of local files, or the hub name, and how they are read and scored.

    Raises:
        InputError: A data file does not exist.
    """
    if data is None:
        return {}
    read = data.model_dump(
        mode="json", exclude={"hub": True, "train": True, "validation": True, "unlabelled": {"files"}}
    )
    found: dict[str, str] = {"settings": sha256_json(read), **({"hub": data.hub} if data.hub else {})}
    for split in ("train", "validation"):
        value = getattr(data, split)
        if value is None or (data.hub and not Path(value).exists()):
            continue
        path = Path(value)
        if not path.is_file():
            raise InputError(
                f"data.{split}: no file at {path}",
                hint="Check the path; it is relative to the current folder.",
            )
        found[split] = sha256_file(path)
    for number, file in enumerate(data.unlabelled.files):
        if not Path(file).is_file():
            raise InputError(
                f"data.unlabelled: no file at {file}",
                hint="Check the path; it is relative to the current folder.",
            )
        found[f"unlabelled {number}"] = sha256_file(Path(file))
    return found


def model_fingerprint(path: str, revision: str | None = None) -> str:
    """Return what identifies a model: the hash of its folder or file, or its name on the hub.

    Raises:
        InputError: ``path`` is neither a folder or file that exists nor of the form NAME or ORGANISATION/NAME.
    """
    place = Path(path)
    if place.is_dir():
        return sha256_folder(place)
    if place.is_file():
        return sha256_file(place)
    if not may_be_on_hub(path):
        raise InputError(
            f"no model folder at {path}", hint="Check the path; it is relative to the current folder."
        )
    return f"hub:{path}@{revision or 'main'}"


def step_key(
    kind: str,
    settings: dict[str, Any],
    *,
    inputs: Iterable[str],
    data: DataConfig | None,
    method_file: Path | None = None,
) -> str:
    """Return the key of a step.

    Args:
        kind: finetune, export, or compress for the methods.
        settings: Resolved settings, without paths of inputs and outputs.
        inputs: Fingerprints of the models it reads.
        data: Its data, whose content counts and whose path does not.
        method_file: Source of the method.
    """
    parts = [*CODE[kind], *([str(method_file.relative_to(PACKAGE))] if method_file else [])]
    return sha256_json(
        {
            "kind": kind,
            "schema": SCHEMA_VERSION,
            "settings": settings,
            "inputs": list(inputs),
            "data": data_fingerprint(data),
            "code": code_sha(parts),
        }
    )

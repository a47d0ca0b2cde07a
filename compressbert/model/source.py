"""Where a model comes from: a local folder or a hub name, checked before anything is loaded."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from safetensors import SafetensorError, safe_open

from compressbert import progress
from compressbert.config.names import may_be_on_hub
from compressbert.errors import InputError

_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model"]
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")


def resolve(path: str | os.PathLike[str], *, revision: str | None = None, code: bool = False) -> Path:
    """The local folder of a model; a hub name is fetched (or found in the hub's cache) first.

    A path that exists, starts like a path, or lies in a folder that exists is never taken for a hub name.

    Args:
        path: A folder, or a hub name such as ``org/name``.
        revision: Branch, tag or commit on the hub.
        code: Fetch Python files too; only for models that may run their own code.

    Raises:
        InputError: Nothing there, a file instead of a folder, an unfinished step, or a hub name out of reach.
    """
    text = os.fspath(path)
    folder = Path(text).expanduser()
    if folder.is_dir():
        if folder.resolve().name.startswith(".") and folder.resolve().name.endswith(".partial"):
            raise InputError(
                f"{text} is the work folder of a step that has not finished.",
                hint="Run the step's command again to finish it, and use its output folder.",
            )
        return folder
    if folder.exists():
        raise InputError(
            f"{text} is a file; expected a model folder.", hint="Give the folder that holds config.json."
        )
    if not may_be_on_hub(text):
        raise InputError(f"No folder {text} exists.", hint="Check the path to the model folder.")
    return _fetch(text, revision, code)


def _fetch(name: str, revision: str | None, code: bool) -> Path:
    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with progress.track(f"Fetching {name}", None, "file"):
            found = snapshot_download(
                name, revision=revision, allow_patterns=_WANTED + ["*.py"] * code, ignore_patterns=["*/*"]
            )
    except (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        OSError,
    ) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        at = f" at revision {revision}" if revision else ""
        raise InputError(
            f"No folder {name} exists here, and the hub model {name}{at} could not be fetched: {reason}",
            hint="Check the spelling; without a connection, give the path of a folder on this machine.",
        ) from error
    finally:
        if shown:
            enable_progress_bars()
    return Path(found)


def read_json(file: Path, purpose: str) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        InputError: The file is missing or holds anything else.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{file.parent} has no {file.name}: expected {purpose}.", hint="Give the folder of a saved model."
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not JSON: {error}", hint="Restore the file.") from error
    if not isinstance(values, dict):
        raise InputError(
            f"{file} holds {type(values).__name__}, expected a JSON object.", hint="Restore the file."
        )
    return values


def weight_files(folder: Path) -> dict[str, Path]:
    """Name of every stored tensor to the safetensors file that holds it, each file's header checked.

    Raises:
        InputError: No weights, pickle only, a missing shard, or a truncated or corrupted file.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return dict.fromkeys(_tensor_names(single), single)
    if index.is_file():
        shards = read_json(index, "the list of weight files").get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            raise InputError(f"{index} has no weight_map.", hint="Restore the file.")
        files = {name: folder / Path(name).name for name in sorted(set(shards.values()))}
        held = {name: _tensor_names(file) for name, file in files.items()}
        for tensor, name in shards.items():
            if tensor not in held[name]:
                raise InputError(f"{files[name]} lacks the tensor {tensor}.", hint="Fetch the file again.")
        return {tensor: files[name] for tensor, name in shards.items()}
    pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
    if pickles:
        raise InputError(
            f"{folder} holds its weights as {pickles[0]}, which is refused: a pickle can run any code.",
            hint="Convert it where you trust it: load it with transformers and save_pretrained(folder), "
            "which writes model.safetensors.",
        )
    raise InputError(
        f"{folder} has no model.safetensors.",
        hint="Give a folder with weights; pickle files (.bin) are not read.",
    )


def _tensor_names(file: Path) -> frozenset[str]:
    try:
        with safe_open(file, framework="pt") as stored:
            return frozenset(stored.keys())
    except FileNotFoundError as error:
        raise InputError(f"The weight file {file} is missing.", hint="Fetch the model again.") from error
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{file} is truncated or corrupted: {error}", hint="Fetch or write the file again."
        ) from error

"""Model folders: loading them into a `Model`, and saving a `Model` so that plain transformers opens it."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from compressbert import progress
from compressbert.errors import ConfigError, InputError
from compressbert.model import heads, pooling, remote_code, source, stock, weights
from compressbert.model.edits import Edit, replay
from compressbert.model.family import encoder_prefix
from compressbert.model.handle import Model
from compressbert.model.heads import TaskSpec
from compressbert.model.tokenizer_files import save_tokenizer

__all__ = ["SCHEMA_VERSION", "TaskSpec", "load", "load_tokenizer", "save"]

SCHEMA_VERSION = 1
_TOKENIZER_FILES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model",
)  # fmt: skip


@dataclass(frozen=True)
class _Recipe:
    """How a stored network is rebuilt: a stock class and config, then edits."""

    architecture: str | None
    config: dict[str, Any]
    edits: tuple[Edit, ...]
    history: tuple[dict[str, Any], ...]


def load(
    path: str | os.PathLike[str],
    *,
    task: TaskSpec | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    device: str = "cpu",
) -> Model:
    """Load a model in evaluation mode, its weights as fp32 (int8 ones stay int8).

    Args:
        path: A folder, edited by compressbert or stock, or a name on the hub.
        task: The head wanted. A stored head that fits stays; else a new one is initialised from torch's
            current
            seed, and a note says so. None: the class named in the folder.
        revision: Branch, tag or commit, for a name on the hub.
        trust_remote_code: Allow a tokenizer's own code to run. Networks are always built from stock classes.
        device: Where to put the network.

    Raises:
        InputError: Missing, incomplete, corrupted or unsupported; the message says which file and what to do.
        ConfigError: An int8 model whose head does not fit the task.
    """
    folder = source.resolve(path, revision=revision, code=trust_remote_code)
    recipe = _read_recipe(folder)
    config = stock.config_from(recipe.config)
    network_class, head_stays = None, True
    if task is not None:
        network_class = stock.class_for_task(task.kind, config)
        head_stays = heads.settle(config, recipe.architecture, network_class, task)
        _refuse_untrainable(recipe, folder, head_stays and recipe.architecture == network_class.__name__)
    network_class = network_class or stock.class_named(recipe.architecture, config)
    files = source.weight_files(folder)
    tokenizer = load_tokenizer(folder, trust_remote_code)
    config.architectures = [network_class.__name__]
    network = stock.build(network_class, config)
    base = stock.plain(config)
    model = Model(network, tokenizer, base, history=list(recipe.history))
    if network.base_model is network:
        stored = pooling.read(folder)
        wanted = task is not None and task.kind == "sentence-embedding"
        model.pooling = heads.pooling_for(stored, task, folder) if wanted and task else stored
    replay(model, recipe.edits)
    _check_vocabulary(model, folder)
    _fill(model, files, folder, task, head_stays)
    network.to(device)
    return model.eval()


def save(model: Model, folder: str | os.PathLike[str]) -> None:
    """Write config.json, model.safetensors, tokenizer files and compression.json into ``folder``.

    A structure that no stock class can express also gets `modeling_compressbert.py`, with which plain
    transformers opens the folder (``trust_remote_code=True``). The same model gives the same bytes. Files
    are written beside the folder and renamed into it; weights come last.
    """
    folder = Path(folder)
    stock.class_named(type(model.network).__name__, model.network.config)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.resolve().parent) as temporary:
        _write_files(model, Path(temporary))
        (folder / remote_code.FILE).unlink(missing_ok=True)
        written = sorted(
            (file for file in Path(temporary).rglob("*") if file.is_file()),
            key=lambda file: (file.suffix == ".safetensors", str(file)),
        )
        for file in written:
            target = folder / file.relative_to(temporary)
            target.parent.mkdir(exist_ok=True)
            os.replace(file, target)


def _write_files(model: Model, folder: Path) -> None:
    network = model.network
    config = stock.stored_config(network)
    code = remote_code.code_of(network)
    if code is not None:
        config |= code.entries
        (folder / remote_code.FILE).write_text(code.text, encoding="utf-8")
    _write_json(folder / "config.json", config)
    record = {
        "schema_version": SCHEMA_VERSION,
        "base": {"architecture": type(network).__name__, "config": model.base_config},
        "edits": [edit.to_json() for edit in model.edits],
        "history": model.history,
    }
    _write_json(folder / "compression.json", record)
    save_tokenizer(model.tokenizer, folder)
    if model.pooling is not None:
        pooling.write(model.pooling, folder, width=model.width)
    weights.write(network, folder / "model.safetensors")


def _write_json(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_recipe(folder: Path) -> _Recipe:
    config = source.read_json(folder / "config.json", "a model folder with config.json")
    if not (folder / "compression.json").is_file():
        if remote_code.KEY in config:
            raise InputError(
                f"{folder} was written by compressbert, but its compression.json is missing.",
                hint="Copy compression.json from where the folder came from.",
            )
        architecture = (config.get("architectures") or [None])[0]
        return _Recipe(architecture, config, (), ())
    file = folder / "compression.json"
    record = source.read_json(file, "the record of edits")
    if record.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"{file} has schema_version {record.get('schema_version')!r}, expected {SCHEMA_VERSION}.",
            hint="Open it with the version of compressbert that wrote it.",
        )
    try:
        edits = tuple(Edit(str(edit["op"]), dict(edit["arguments"])) for edit in record["edits"])
        base = record["base"]
        return _Recipe(base["architecture"], dict(base["config"]), edits, tuple(record["history"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{file} is damaged: {error!r}.", hint="Write the folder again, or restore the file."
        ) from error


def _refuse_untrainable(recipe: _Recipe, folder: Path, head_stays: bool) -> None:
    if not head_stays and any(edit.op == "quantize_int8" for edit in recipe.edits):
        raise ConfigError(
            f"{folder} holds int8 weights and needs a new head for this task, but int8 models do not train.",
            hint="Give the new head to the fp32 model and quantize as the last step.",
        )


def load_tokenizer(folder: Path, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder, without its network.

    Raises:
        InputError: The folder has no tokenizer, or a damaged one.
    """
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise InputError(
            f"{folder} has no tokenizer: expected one of {', '.join(_TOKENIZER_FILES)}.",
            hint="Copy the tokenizer files of the model it came from into the folder.",
        )
    try:
        with stock.quiet():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=trust_remote_code
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"The tokenizer in {folder} cannot be loaded: {error}", hint="Restore its tokenizer files."
        ) from error
    return tokenizer


def _check_vocabulary(model: Model, folder: Path) -> None:
    rows = cast(int, model.network.get_input_embeddings().num_embeddings)
    if len(model.tokenizer) > rows:
        raise InputError(
            f"The tokenizer in {folder} knows {len(model.tokenizer)} word pieces, the model only {rows}.",
            hint="Give the folder the tokenizer its model was trained with.",
        )


def _fill(
    model: Model, files: dict[str, Path], folder: Path, task: TaskSpec | None, head_stays: bool
) -> None:
    network = model.network
    loaded = weights.load_into(network, files, head=head_stays)
    missing = loaded.missing
    prefix = encoder_prefix(network)
    outside = [name for name in missing if not name.startswith(f"{prefix}pooler.")]
    if outside and task is None:
        raise InputError(
            f"{folder} lacks the weights of its head; the first is {outside[0]}.",
            hint="Give a folder whose config.json names the class it was saved from.",
        )
    if missing:
        weights.initialise(network, missing)
        parts = sorted({name.rpartition(".")[0] for name in missing})
        progress.note(f"{folder}: no weights for {', '.join(parts)}; initialised at random from the seed.")
    elif loaded.unused and task is None:
        progress.note(
            f"{folder}: {len(loaded.unused)} stored tensors are no part of the model ({loaded.unused[0]}, …)."
        )

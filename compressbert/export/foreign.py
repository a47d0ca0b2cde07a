"""Loads models of architectures that are not compressed here, so that they can at least be exported."""

from __future__ import annotations

import os

import transformers
from transformers import AutoModel, AutoTokenizer

from compressbert.errors import InputError
from compressbert.model import architectures, source
from compressbert.model.checkpoint import load
from compressbert.model.families import is_known
from compressbert.model.handle import Model
from compressbert.model.stock import plain, quiet


def load_for_export(
    path: str | os.PathLike[str], *, revision: str | None = None, trust_remote_code: bool = False
) -> Model:
    """Load a model of any architecture that transformers has: `checkpoint.load` for what it loads.

    Args:
        path: A folder, or a name on the hub.
        revision: Branch, tag or commit on the hub.
        trust_remote_code: Passed to `checkpoint.load`; others are loaded from stock classes only.

    Raises:
        InputError: Nothing there, no safetensors, or an architecture that transformers lacks.
    """
    folder = source.resolve(path, revision=revision, code=trust_remote_code)
    config = source.read_json(folder / "config.json", "a model folder with config.json")
    model_type = str(config.get("model_type"))
    if is_known(model_type) or architectures.is_own(model_type):
        return load(folder, trust_remote_code=trust_remote_code)
    source.weight_files(folder)  # refuses folders without safetensors, with the reason
    name = (config.get("architectures") or ["AutoModel"])[0]
    network_class = getattr(transformers, name, None) if name != "AutoModel" else AutoModel
    if network_class is None:
        raise InputError(
            f"config.json names {name}, which transformers {transformers.__version__} lacks.",
            hint="Choose a model whose architecture is part of transformers.",
        )
    try:
        with quiet():
            network = network_class.from_pretrained(
                folder, dtype="float32", use_safetensors=True, local_files_only=True, trust_remote_code=False
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(
            f"{folder} cannot be loaded by transformers: {error}", hint="Restore the folder's files."
        ) from error
    return Model(network.eval(), tokenizer, plain(network.config))

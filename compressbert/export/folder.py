"""What every export folder holds beside its graph, and writing one so that it is complete or not there."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compressbert.model import pooling
from compressbert.model.handle import Model
from compressbert.model.stock import quiet, stored_config


def write_companions(model: Model, folder: Path) -> None:
    """The config, without a reference to code, the tokenizer, and how a sentence encoder pools."""
    config = stored_config(model.network)
    config.pop("auto_map", None)
    text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False)
    (folder / "config.json").write_text(f"{text}\n", encoding="utf-8")
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is not None:  # the last call's truncation and padding are no part of the tokenizer
        backend.no_truncation()
        backend.no_padding()
    with quiet():
        model.tokenizer.save_pretrained(folder)
    _name_tokenizer_for_all(folder / "tokenizer_config.json")
    if model.pooling is not None:
        pooling.write(model.pooling, folder, width=model.width)


def _name_tokenizer_for_all(file: Path) -> None:
    """Call a tokenizer that is all in `tokenizer.json` by the name that transformers 4, 5 and .js know."""
    config = json.loads(file.read_text(encoding="utf-8"))
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A folder beside ``folder`` whose files are moved into it if the block succeeds and removed if not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=f".{folder.name}.export-", dir=folder.parent))
    try:
        yield stage
        for file in sorted(path for path in stage.rglob("*") if path.is_file()):
            target = folder / file.relative_to(stage)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)
    finally:
        shutil.rmtree(stage)

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
from compressbert.model.stock import stored_config
from compressbert.model.tokenizer_files import save_tokenizer


def write_companions(model: Model, folder: Path) -> None:
    """The config, without a reference to code, the tokenizer, and how a sentence encoder pools."""
    config = stored_config(model.network)
    config.pop("auto_map", None)
    # transformers.js fails without names of labels.
    if type(model.network).__name__.endswith("Classification"):
        names = model.network.config.id2label
        config["id2label"] = {str(index): label for index, label in names.items()}
        config["label2id"] = {label: index for index, label in names.items()}
    text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False)
    (folder / "config.json").write_text(f"{text}\n", encoding="utf-8")
    save_tokenizer(model.tokenizer, folder)
    if model.pooling is not None:
        pooling.write(model.pooling, folder, width=model.width)


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

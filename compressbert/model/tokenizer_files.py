"""Writing a tokenizer so that transformers 4, transformers 5 and transformers.js all open it."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from compressbert.model.stock import quiet


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the tokenizer's files into a folder that exists."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:  # the last call's truncation and padding are no part of the tokenizer
        backend.no_truncation()
        backend.no_padding()
    with quiet():
        tokenizer.save_pretrained(folder)
    _name_for_all(folder / "tokenizer_config.json")


def _name_for_all(file: Path) -> None:
    """Call a tokenizer that is all in `tokenizer.json` by the name that transformers 4, 5 and .js know."""
    config = json.loads(file.read_text(encoding="utf-8"))
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

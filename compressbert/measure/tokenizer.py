"""What it costs to turn a text into token ids: apart from every latency, for it runs outside the model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compressbert.measure.cells import typical_places
from compressbert.measure.runners import config_folder

Texts = Sequence[tuple[str, str | None]]  # a row's text, and its second text where it has one
_MOST_TEXTS = 256
_PASSES = 3  # the first fills the caches, each text's fastest later pass counts


def tokenizer_ms(path: Path, texts: Texts) -> float | None:
    """Median milliseconds to tokenize one of ``texts`` by itself, with the tokenizer beside the artefact.

    At most 256 texts are timed, spread evenly over their sizes. None where there is no tokenizer, or no text.
    """
    from compressbert.model.checkpoint import load_tokenizer

    folder = config_folder(path)
    if folder is None or not texts:
        return None
    tokenizer = load_tokenizer(folder)
    ordered = sorted(texts, key=lambda row: len(row[0]) + len(row[1] or ""))
    chosen = [ordered[place] for place in typical_places(len(ordered), min(_MOST_TEXTS, len(ordered)))]
    spent = np.empty((_PASSES, len(chosen)))
    for number in range(_PASSES):
        for index, (text, pair) in enumerate(chosen):
            start = time.perf_counter()
            tokenizer(text, pair, truncation=True)
            spent[number, index] = time.perf_counter() - start
    return float(np.median(spent[1:].min(axis=0))) * 1e3

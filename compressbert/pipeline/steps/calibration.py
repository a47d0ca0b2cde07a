"""Training texts for what is decided when a model is quantized after training: ranges, and what int8 hurts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from compressbert.config.schema import DataConfig
from compressbert.data.batches import ordered_batches
from compressbert.data.encode import encode
from compressbert.data.read import read_split
from compressbert.errors import ConfigError
from compressbert.tasks.base import task_for


def calibration_batches(
    data: DataConfig | None,
    tokenizer: PreTrainedTokenizerBase,
    rows: int,
    *,
    batch_size: int = 1,
    purpose: str = "int8 calibration takes the ranges of activations",
) -> list[dict[str, NDArray[np.int64]]]:
    """``rows`` texts of the training data, evenly spread over it, as batches of one without padding, or larger.

    ``purpose`` says what takes something from them, should there be none.

    Raises:
        ConfigError: No training data is configured.
        InputError: It is unusable.
    """
    if data is None or (data.train is None and data.hub is None):
        raise ConfigError(
            f"{purpose} from training data, and there is none.",
            hint="Add `data: {train: FILE}` to the config, or `--data FILE`.",
        )
    split = read_split(data, "train", need_labels=False)
    total = len(split.rows)
    chosen = np.unique(np.linspace(0, total - 1, min(rows, total)).astype(np.int64))
    spread = replace(split, rows=split.rows.select(chosen))
    encoded = encode(spread, tokenizer, task=task_for(data, ("a", "b")), max_length=data.max_length)
    batches = ordered_batches(encoded, batch_size=batch_size, pad_id=tokenizer.pad_token_id or 0)
    return [{name: values.numpy() for name, values in batch.inputs.items()} for batch in batches]

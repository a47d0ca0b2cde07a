"""Runs a model over encoded rows, in evaluation mode and float32, and returns the outputs in row order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compressbert import progress
from compressbert.data.batches import Batch, ordered_batches
from compressbert.data.encode import Encoded
from compressbert.errors import ConfigError, InputError
from compressbert.model.handle import Model
from compressbert.tasks.base import Task
from compressbert.tasks.predictions import Predictions, Rows


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Dropout and gradients off inside the block; every module's own mode is put back after it."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def rows_of(encoded: Encoded, model: Model, label: str, batch_size: int) -> Iterator[Batch]:
    """All rows once, longest first, in batches on the network's device, with progress shown under ``label``.

    Raises:
        InputError: There is no row.
    """
    if len(encoded) == 0:
        raise InputError(f"{label}: expected rows, found none", hint="Check the data file.")
    with progress.track(label, encoded.sequences, "texts") as shown:
        for batch in ordered_batches(encoded, batch_size=batch_size, pad_id=model.tokenizer.pad_token_id):
            yield batch.to(model.network.device)
            shown.advance(len(batch))


def collect(model: Model, encoded: Encoded, task: Task, *, batch_size: int = 32) -> Predictions:
    """What ``model`` says about every example, in the form that the task's metrics read.

    Raises:
        InputError: There is no row, or nothing in the rows to score.
    """
    collector = task.collector(encoded)
    with evaluation_mode(model.network):
        for batch in rows_of(encoded, model, "predict", batch_size):
            collector.add(batch, model(**batch.inputs).logits)
    return collector.finish()


def predict(model: Model, encoded: Encoded, *, batch_size: int = 64) -> NDArray[np.float32]:
    """Logits of every sequence, (N, C) float32, row ``i`` for row ``i`` of ``encoded``; C is 1 for regression.

    Runs where the network is. Rows are batched by length and sorted back, so padding stays small.

    Raises:
        InputError: There is no row.
        ConfigError: The rows have logits for each token; see `collect`.
    """
    refuse_tokens(encoded)
    kept = Rows(encoded)
    with evaluation_mode(model.network):
        for batch in rows_of(encoded, model, "predict", batch_size):
            kept.add(batch, model(**batch.inputs).logits)
    return cast("NDArray[np.float32]", kept.outputs)


def score(model: Model, encoded: Encoded, task: Task) -> float:
    """The task's primary metric on labelled rows."""
    metric = next(metric for metric in task.metrics if metric.name == task.primary_metric)
    found = collect(model, encoded, task)
    return metric(found.scores, found.labels)


def refuse_tokens(encoded: Encoded) -> None:
    """ConfigError for rows of a task with logits for each token."""
    if encoded.masking is not None or encoded.token_places is not None or encoded.token_labels is not None:
        kind = "masked-lm rows" if encoded.masking is not None else "rows with a label for each token"
        raise ConfigError(
            f"expected rows with one vector of logits each, found {kind}",
            hint="Such rows are scored by `collect`, and distilled from a teacher run live.",
        )

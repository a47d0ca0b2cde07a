"""Runs a model over encoded rows, in evaluation mode and float32, and returns the outputs in row order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compressbert import progress
from compressbert.data.batches import Batch, ordered_batches
from compressbert.data.encode import Encoded
from compressbert.data.masking import NOT_SCORED
from compressbert.errors import ConfigError, InputError
from compressbert.model.handle import Model
from compressbert.tasks.base import Task
from compressbert.tasks.metrics import Metric


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
    with progress.track(label, len(encoded), "examples") as shown:
        for batch in ordered_batches(encoded, batch_size=batch_size, pad_id=model.tokenizer.pad_token_id):
            yield batch.to(model.network.device)
            shown.advance(len(batch))


def predict(model: Model, encoded: Encoded, *, batch_size: int = 64) -> NDArray[np.float32]:
    """Logits of every row, (N, C) float32, row ``i`` for row ``i`` of ``encoded``; C is 1 for regression.

    Runs where the network is. Rows are batched by length and sorted back, so padding stays small.

    Raises:
        InputError: There is no row.
        ConfigError: The rows are masked-lm rows, with logits per token and word; see `masked_lm_statistics`.
    """
    refuse_masked(encoded)
    logits: NDArray[np.float32] | None = None
    with evaluation_mode(model.network):
        for batch in rows_of(encoded, model, "predict", batch_size):
            output = model(**batch.inputs).logits.float().cpu().numpy()  # (B, C)
            if logits is None:
                logits = np.empty((len(encoded), output.shape[1]), np.float32)
            logits[batch.examples.numpy()] = output
    return cast("NDArray[np.float32]", logits)


def masked_lm_statistics(
    model: Model, encoded: Encoded, metric: Metric, *, batch_size: int = 32
) -> NDArray[np.float64]:
    """Statistics of a masked-lm metric, (N, k), row ``i`` for row ``i``.

    Which words of a row are masked follows from its number alone, so two models are asked the same.

    Raises:
        InputError: There is no row, or chance masked no word at all.
    """
    sums: NDArray[np.float64] | None = None
    with evaluation_mode(model.network):
        for batch in rows_of(encoded, model, "predict", batch_size):
            labels = cast(Tensor, batch.labels)  # (B, S)
            row, position = torch.nonzero(labels != NOT_SCORED, as_tuple=True)
            if len(row) == 0:
                continue
            # Only the words asked for leave the device: (B, S, V) logits would be a gigabyte at 64 x 128.
            logits = model(**batch.inputs).logits[row, position].float().cpu().numpy()  # (words, V)
            per_word = metric.statistics(logits, labels[row, position].cpu().numpy())  # (words, k)
            if sums is None:
                sums = np.zeros((len(encoded), per_word.shape[1]))
            np.add.at(sums, batch.examples.numpy()[row.cpu().numpy()], per_word)
    if sums is None:
        raise InputError(f"no word of {len(encoded)} rows was masked", hint="Give more or longer rows.")
    return sums


def score(model: Model, encoded: Encoded, task: Task) -> float:
    """The task's primary metric on labelled rows."""
    metric = next(metric for metric in task.metrics if metric.name == task.primary_metric)
    if task.kind == "masked-lm":
        return float(metric.value(masked_lm_statistics(model, encoded, metric).sum(axis=0)))
    if encoded.labels is None:
        raise InputError("validation rows have no labels", hint="Check data.columns.label.")
    return metric(predict(model, encoded), encoded.labels)


def refuse_masked(encoded: Encoded) -> None:
    """ConfigError for masked-lm rows."""
    if encoded.masking is not None:
        raise ConfigError(
            "expected rows with one vector of logits each, found masked-lm rows",
            hint="Masked-lm rows are scored by masked_lm_statistics, and distilled from a teacher run live.",
        )

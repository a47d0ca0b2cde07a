"""Trains a tiny model with everything random switched on; run as a process of its own so that it can be killed.

Usage: python -m tests.train.resume_worker FOLDER SECONDS_PER_STEP. Prints each step done; writes FOLDER/final.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from compressbert.data.batches import Batch
from compressbert.model.handle import Model
from tests.train.support import task_loss, tiny_model, toy, train, weights

SETTINGS: dict[str, Any] = {
    "epochs": 4, "gradient_accumulation": 2, "precision": "bf16", "checkpoint_every": 3, "keep": "best",
}  # fmt: skip


def main(folder: Path, seconds_per_step: float) -> None:
    torch.manual_seed(0)
    model, projection = tiny_model(hidden_dropout_prob=0.2), nn.Linear(2, 2)
    task, _ = toy(folder)
    _, validation = toy(folder, rows=20, seed=5)

    def loss(model: Model, batch: Batch) -> dict[str, Tensor]:
        parts = task_loss(task)(model, batch)
        noise = torch.rand_like(projection.weight)
        return {**parts, "projected": (projection(model(**batch.inputs).logits) @ noise).square().mean()}

    def after_step(step: int, total: int) -> None:
        print(step, flush=True)
        time.sleep(seconds_per_step)

    result = train(
        model, folder, loss=loss, settings=SETTINGS, extra_modules={"projection": projection}, after_step=after_step,
        validation=validation,
    )  # fmt: skip
    save_file(weights(model.network, projection), folder / "final")
    print("log", result.log, result.epochs, result.kept_step, "resumed", result.resumed_from, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))

"""Trains a tiny model without dropout in each of several processes; every one writes the weights it ends with.

Usage: torchrun --nproc-per-node 2 -m tests.train.parallel_worker FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from compressbert.train.processes import processes
from compressbert.train.teacher import teacher_outputs
from tests.train.support import tiny_model, toy, train, weights

SETTINGS: dict[str, Any] = {
    "epochs": 1, "batch_size": 4, "gradient_accumulation": 2, "precision": "fp32", "keep": "best",
    "checkpoint_every": 2,
}  # fmt: skip
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def main(folder: Path) -> None:
    process = processes().process_index
    _, encoded = toy(folder)  # made beforehand: the processes only read it
    model = tiny_model(**NO_DROPOUT)
    outputs = teacher_outputs(model, encoded, work=folder / "work")
    result = train(model, folder, settings=SETTINGS, validation=encoded)
    save_file(
        {**weights(model.network), "teacher": outputs.logits(torch.arange(len(encoded)))},
        folder / f"process-{process}",
    )
    (folder / f"process-{process}.txt").write_text(f"{result.steps} {result.epochs} {result.kept_step}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

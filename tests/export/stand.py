"""What the export tests share: tiny models, compressed unevenly, and sessions opened as a user would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from compressbert.model import edits
from compressbert.model.handle import Model
from tests.tiny import tiny_network, tiny_tokenizer


def tiny_model(family: str = "bert", **options: Any) -> Model:
    network = tiny_network(family, **options)
    return Model(network, tiny_tokenizer(family), network.config.to_dict())


def uneven_model(family: str = "bert", **options: Any) -> Model:
    """Three layers with 2, 3 and 4 heads and 10, 64 and 37 neurons."""
    model = tiny_model(family, layers=3, **options)
    if family == "albert":  # its layers are passes through the same weights
        edits.keep_heads(model, {layer: [0, 2, 3] for layer in range(3)})
        edits.keep_neurons(model, dict.fromkeys(range(3), range(3, 40)))
        return model
    edits.keep_heads(model, {0: [1, 3], 1: [0, 2, 3]})
    edits.keep_neurons(model, {0: list(range(0, 20, 2)), 2: list(range(3, 40))})
    return model


def run_file(file: Path, batch: dict[str, torch.Tensor]) -> NDArray[np.float32]:
    """The output of a file in a session with default options, given the inputs it asks for."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    return session.run(None, {name: batch[name].numpy() for name in names})[0]


def run_network(model: Model, batch: dict[str, torch.Tensor]) -> NDArray[np.float32]:
    with torch.inference_mode():
        found = model(**batch)
    return (found.logits if "logits" in found else found.last_hidden_state).numpy()

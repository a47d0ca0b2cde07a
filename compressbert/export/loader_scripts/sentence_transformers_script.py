"""Opens a folder in sentence-transformers. See the package's text for the arguments.

The options are the backend (torch, onnx, openvino) and the path of the .onnx file or the IR inside the folder.
"""

import json
import sys
from importlib.metadata import version
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # would send usage statistics


def main(folder: str, inputs: str, outputs: str, backend: str, path: str = "") -> None:
    """Run every batch through all modules, and tokenize every text."""
    from sentence_transformers import SentenceTransformer

    options: dict[str, Any] = {"file_name": path} if path else {"dtype": torch.float32}
    if backend == "openvino":
        options["ov_config"] = {"INFERENCE_PRECISION_HINT": "f32"}
    model = SentenceTransformer(
        folder, device="cpu", backend=backend, model_kwargs=options, local_files_only=True
    ).eval()
    tensors, answers = load_file(inputs), {}
    for batch in sorted({key.split(".")[0] for key in tensors}):
        given = {key.split(".")[1]: value for key, value in tensors.items() if key.startswith(f"{batch}.")}
        with torch.inference_mode():
            found = model(given)
        answers[f"{batch}.sentence_embedding"] = found["sentence_embedding"].contiguous()
        answers[f"{batch}.last_hidden_state"] = found["token_embeddings"].contiguous()
    with safe_open(inputs, "pt") as file:
        texts = json.loads(file.metadata()["texts"])
    for index, text in enumerate(texts):
        answers[f"text.{index:04}"] = torch.tensor(model.tokenizer(*text)["input_ids"])
    save_file(answers, outputs, metadata={"version": version("sentence-transformers")})


main(*sys.argv[1:])

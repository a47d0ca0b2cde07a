"""Opens an export folder in optimum's ORTModel or OVModel. See the package's text for the arguments.

The options are the class and the path of the .onnx file or the IR inside the folder.
"""

import importlib
import json
import sys
from importlib.metadata import version
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer


def main(folder: str, inputs: str, outputs: str, name: str, path: str) -> None:
    """Run every batch and tokenize every text with the tokenizer of that environment's transformers."""
    subfolder, _, file_name = path.rpartition("/")
    package, module, options = "optimum-onnx", "optimum.onnxruntime", dict[str, Any]()
    if name.startswith("OV"):
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # would send usage statistics
        package, module = "optimum-intel", "optimum.intel"
        options = {"ov_config": {"INFERENCE_PRECISION_HINT": "f32"}}
    model = getattr(importlib.import_module(module), name).from_pretrained(
        folder, subfolder=subfolder, file_name=file_name, local_files_only=True, **options
    )
    tensors, answers = load_file(inputs), {}
    for batch in sorted({key.split(".")[0] for key in tensors}):
        given = {key.split(".")[1]: value for key, value in tensors.items() if key.startswith(f"{batch}.")}
        found = model(**given)
        for key, value in found.items():
            if isinstance(value, torch.Tensor):
                answers[f"{batch}.{key}"] = value.float().contiguous()
    with safe_open(inputs, "pt") as file:
        texts = json.loads(file.metadata()["texts"])
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for index, text in enumerate(texts):
        answers[f"text.{index:04}"] = torch.tensor(tokenizer(*text)["input_ids"])
    save_file(answers, outputs, metadata={"version": version(package)})


main(*sys.argv[1:])

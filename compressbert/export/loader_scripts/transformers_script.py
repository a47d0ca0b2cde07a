"""Opens a model folder in plain transformers. See the package's text for the arguments.

The options are the auto class or class to open it with, and whether to trust the folder's code (``yes``).
"""

import inspect
import json
import sys

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file


def main(folder: str, inputs: str, outputs: str, name: str, trust: str) -> None:
    """Load the model with every key in its place, run every batch and tokenize every text."""
    sys.modules["compressbert"] = None  # type: ignore[assignment]  # it must open without this package
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    local = {"trust_remote_code": trust == "yes", "local_files_only": True}
    network, info = getattr(transformers, name).from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, **local
    )
    wrong = {kind: sorted(map(str, keys)) for kind, keys in info.items() if keys}
    if wrong:
        sys.exit(f"keys do not fit: {wrong}")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **local)
    accepted = inspect.signature(network.eval().forward).parameters
    tensors, answers = load_file(inputs), {}
    for batch in sorted({key.split(".")[0] for key in tensors}):
        given = {key.split(".")[1]: value for key, value in tensors.items() if key.startswith(f"{batch}.")}
        with torch.inference_mode():
            found = network(**{key: value for key, value in given.items() if key in accepted})
        for key, value in found.items():
            if isinstance(value, torch.Tensor):
                answers[f"{batch}.{key}"] = value.float().contiguous()
    with safe_open(inputs, "pt") as file:
        texts = json.loads(file.metadata()["texts"])
    for index, text in enumerate(texts):
        answers[f"text.{index:04}"] = torch.tensor(tokenizer(*text)["input_ids"])
    save_file(answers, outputs, metadata={"version": transformers.__version__})


main(*sys.argv[1:])

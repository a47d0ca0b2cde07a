"""Runs an .onnx file in onnxruntime with default options. See the package's text for the arguments."""

import sys
from typing import Any

import onnxruntime
from safetensors.numpy import load_file, save_file


def main(artefact: str, inputs: str, outputs: str) -> None:
    """Run every batch of ``inputs``."""
    onnxruntime.set_default_logger_severity(3)  # warnings of graph optimizations are no failures
    session = onnxruntime.InferenceSession(artefact, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    outputs_of_file = [node.name for node in session.get_outputs()]
    tensors = load_file(inputs)
    answers: dict[str, Any] = {}
    for batch in sorted({key.split(".")[0] for key in tensors}):
        found = session.run(outputs_of_file, {name: tensors[f"{batch}.{name}"] for name in names})
        answers |= {f"{batch}.{name}": value for name, value in zip(outputs_of_file, found, strict=True)}
    save_file(answers, outputs, metadata={"version": onnxruntime.__version__})


main(*sys.argv[1:])

"""Runs an .onnx file in onnxruntime with default options. See the package's text for the arguments."""

import sys

import onnxruntime
from safetensors.numpy import load_file, save_file


def main(artefact: str, inputs: str, outputs: str) -> None:
    """Run every batch of ``inputs``."""
    onnxruntime.set_default_logger_severity(3)  # warnings of graph optimizations are no failures
    session = onnxruntime.InferenceSession(artefact, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    output = session.get_outputs()[0].name
    tensors, answers = load_file(inputs), {}
    for batch in sorted({key.split(".")[0] for key in tensors}):
        (answers[batch],) = session.run([output], {name: tensors[f"{batch}.{name}"] for name in names})
    save_file(answers, outputs, metadata={"version": onnxruntime.__version__})


main(*sys.argv[1:])

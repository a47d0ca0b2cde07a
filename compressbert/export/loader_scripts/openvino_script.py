"""Runs an .onnx file or an IR (.xml) in OpenVINO on the CPU. See the package's text for the arguments."""

import sys

import numpy as np
import openvino
from safetensors.numpy import load_file, save_file


def main(artefact: str, inputs: str, outputs: str) -> None:
    """Run every batch of ``inputs`` in fp32 arithmetic, which is the hint that other loaders imply."""
    compiled = openvino.Core().compile_model(artefact, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [port.get_any_name() for port in compiled.inputs]
    tensors, answers = load_file(inputs), {}
    for batch in sorted({key.split(".")[0] for key in tensors}):
        found = compiled({name: tensors[f"{batch}.{name}"] for name in names})
        for port, value in found.items():
            answers[f"{batch}.{port.get_any_name()}"] = np.array(value)
    save_file(answers, outputs, metadata={"version": openvino.__version__.split("-")[0]})


main(*sys.argv[1:])

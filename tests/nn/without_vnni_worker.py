"""Compares onnxruntime's int8 kernel with the emulated one; run where VNNI is hidden. Prints what agrees."""

from __future__ import annotations

import json

import numpy as np
import torch
from torch import nn

from compressbert.nn.int8 import Int8Linear
from compressbert.nn.saturation import without_vnni
from tests.nn.test_int8 import onnx_twin

found = []
for width, out in ((384, 1536), (1536, 384), (385, 7), (9, 5)):
    torch.manual_seed(width)
    linear = nn.Linear(width, out)
    nn.init.normal_(linear.weight)
    x = torch.randn(33, width) * 3
    x[0], x[1, ::2] = 9.0, 9.0
    row = {}
    for portable in (False, True):
        module = Int8Linear.from_linear(linear, portable=portable)
        kernel = onnx_twin(module).run(None, {"x": x.numpy()})[0]
        exact = module(x).numpy()
        with without_vnni(module):
            emulated = module(x).numpy()
        row["portable" if portable else "naive"] = {
            "kernel is exact": np.array_equal(kernel, exact),
            "kernel is emulated": np.array_equal(kernel, emulated),
        }
    found.append(row)
print(json.dumps(found))

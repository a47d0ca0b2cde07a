"""Int8 modules against onnxruntime's kernel, integer arithmetic in numpy, and their own bounds."""

from __future__ import annotations

import copy

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from compressbert.nn import int8
from compressbert.nn.int8 import (
    Int8Embedding,
    Int8Linear,
    integer_linear,
    quantize_activations,
    quantize_rows,
)


def onnx_twin(module: Int8Linear) -> onnxruntime.InferenceSession:
    """One DynamicQuantizeMatMul node with the module's tensors."""
    weight = module.matrix.numpy().T.copy()  # (in, out)
    tensors = {"w": weight, "s": module.scale.numpy(), "z": np.zeros(weight.shape[1], np.int8)}
    node = helper.make_node("DynamicQuantizeMatMul", ["x", "w", "s", "z", "b"], ["y"], domain="com.microsoft")
    assert module.bias is not None
    tensors["b"] = module.bias.numpy()
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", weight.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", weight.shape[1]])],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def inputs(width: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    random = torch.randn(33, width, generator=generator)
    return {
        "random": random * 3,
        "one row": random[:1],
        "all positive": random.abs() + 1,
        "all negative": -random.abs() - 0.5,
        "constant": torch.full((4, width), 2.5),
        "zero": torch.zeros(3, width),
        "tiny": random * 1e-30,
        "huge": random * 1e30,
    }


@pytest.mark.parametrize(("width", "out"), [(32, 64), (30, 7), (384, 96)])
def test_linear_equals_onnxruntime_bit_for_bit(width: int, out: int) -> None:
    torch.manual_seed(0)
    module = Int8Linear.from_linear(nn.Linear(width, out))
    session = onnx_twin(module)
    for name, x in inputs(width).items():
        theirs = session.run(None, {"x": x.numpy()})[0]
        assert np.array_equal(module(x).numpy(), theirs), name


def test_linear_equals_the_integer_reference() -> None:
    torch.manual_seed(0)
    module = Int8Linear.from_linear(nn.Linear(40, 12))
    x = torch.randn(2, 5, 40)
    values = x.numpy()
    scale = (values.max() - values.min()) / np.float32(255)
    zero = np.rint(-values.min() / scale)
    q = np.clip(np.rint(values / scale) + zero, 0, 255).astype(np.int64)
    total = (q - int(zero)) @ module.matrix.numpy().astype(np.int64).T
    assert module.bias is not None
    expected = total * (scale * module.scale.numpy().astype(np.float64)) + module.bias.numpy()
    np.testing.assert_allclose(module(x).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_quantized_rows_are_within_half_a_step() -> None:
    weight = torch.randn(9, 50, generator=torch.Generator().manual_seed(0)) * torch.arange(9)[:, None]
    q, scale = quantize_rows(weight)
    assert scale[0] == 1  # a row of zeros
    assert torch.equal(q[0], torch.zeros(50, dtype=torch.int8))
    assert (weight - scale[:, None] * q).abs().le(scale[:, None] / 2 * (1 + 1e-5)).all()
    assert q[1:].abs().amax(dim=1).eq(127).all()


def test_rounding_is_half_to_even() -> None:
    # max|row| = 127, so the scale is 1 and the values are their own quantized ones before rounding
    q, scale = quantize_rows(torch.tensor([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -127.0]]))
    assert scale.item() == 1
    assert q[0].tolist() == [127, 0, 2, 2, 0, -2, -127]


def test_activation_range_always_holds_zero() -> None:
    q, scale, zero_point = quantize_activations(torch.tensor([2.0, 5.1]))
    assert (scale.item(), zero_point.item()) == (pytest.approx(5.1 / 255), 0)
    assert (q.int() + 128).tolist() == [100, 255]
    q, scale, zero_point = quantize_activations(torch.tensor([-5.1, -2.0]))
    assert zero_point.item() == 255
    assert (q.int() + 128).tolist() == [0, 155]
    q, scale, zero_point = quantize_activations(torch.zeros(3))
    assert (scale.item(), zero_point.item(), q.tolist()) == (1, 0, [-128] * 3)


def test_weights_and_inputs_on_the_grid_are_exact() -> None:
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(16, 8)
    with torch.no_grad():
        linear.weight.copy_(torch.randint(-127, 128, (8, 16), generator=generator))
        linear.weight[:, 0] = 127
        linear.bias.copy_(torch.arange(8.0))
        x = torch.randint(0, 256, (5, 16), generator=generator).float() - 100
        x[0, :2] = torch.tensor([-100.0, 155.0])
        assert torch.equal(Int8Linear.from_linear(linear, portable=False)(x), linear(x))


@pytest.mark.parametrize("zero_point", [0, 7, 128, 255])
def test_both_integer_products_are_exact(monkeypatch: pytest.MonkeyPatch, zero_point: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.randint(-128, 128, (6, 3000), generator=generator, dtype=torch.int8)
    weight = torch.randint(-127, 128, (5, 3000), generator=generator, dtype=torch.int8)
    weight[0], q[0] = 127, 127  # the largest sum there can be
    zero = torch.tensor(zero_point, dtype=torch.int32)
    expected = (q.long() + 128 - zero_point) @ weight.long().t()
    assert torch.equal(integer_linear(q, zero, weight).long(), expected)
    monkeypatch.setattr(int8, "_integer_matmul_is_exact", lambda: False)
    assert torch.equal(integer_linear(q, zero, weight).long(), expected)


def test_embedding_rows_and_padding() -> None:
    torch.manual_seed(0)
    table = nn.Embedding(10, 6, padding_idx=0)
    module = Int8Embedding.from_embedding(table)
    ids = torch.tensor([[1, 0], [9, 3]])
    rows = module(ids)
    assert rows.shape == (2, 2, 6)
    assert torch.equal(rows[0, 1], torch.zeros(6))
    assert (rows - table(ids)).abs().le(module.scale[ids].unsqueeze(-1) / 2 * (1 + 1e-5)).all()
    assert module.padding_idx == 0


def test_stored_tensors_and_copies() -> None:
    module = Int8Linear.from_linear(nn.Linear(4, 3))
    state = module.state_dict()
    assert {name: value.dtype for name, value in state.items()} == {
        "weight": torch.int8,
        "scale": torch.float32,
        "bias": torch.float32,
    }
    assert not list(module.parameters())
    twin = copy.deepcopy(module).to("cpu")
    twin.weight.zero_()
    assert module.weight.any()
    plain = Int8Linear(4, 3)
    plain.load_state_dict(state)
    x = torch.randn(2, 4)
    assert torch.equal(plain(x), module(x))
    assert "bias" not in Int8Linear.from_linear(nn.Linear(4, 3, bias=False)).state_dict()


def test_backward_refuses() -> None:
    module = Int8Linear.from_linear(nn.Linear(4, 3))
    x = torch.randn(2, 4, requires_grad=True)
    y = module(x)
    with pytest.raises(RuntimeError, match="int8 modules have no gradient"):
        y.sum().backward()


def test_low_precision_input_keeps_its_type() -> None:
    module = Int8Linear.from_linear(nn.Linear(8, 3))
    x = torch.randn(2, 8)
    assert module(x.bfloat16()).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module(x), module(x))
        assert module(x).dtype == torch.float32


def test_scales_are_half_precision_numbers_where_those_reach() -> None:
    weight = (
        torch.randn(50, 8, generator=torch.Generator().manual_seed(0)) * torch.logspace(-12, 9, 50)[:, None]
    )
    _, scale = quantize_rows(weight)
    least = weight.abs().amax(dim=1) / 127
    assert (scale >= least).all()
    assert (scale <= least * 1.0011).all()
    reached = (least > 2**-14) & (least < 65000)
    assert 10 < reached.sum() < 40
    assert torch.equal(scale[reached].half().float(), scale[reached])
    assert torch.equal(scale[~reached], least[~reached])

"""Features that dwarf the others are divided before int8 products: exact in fp32, and nearer to fp32 in int8."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from compressbert.config.schema import ExportConfig
from compressbert.export.graph import every_node
from compressbert.export.outliers import divisors_of, outlier_divisors
from compressbert.export.variants import Formats, int8_products, variant
from compressbert.export.write import export_onnx
from compressbert.model import edits
from compressbert.model.handle import Model
from compressbert.nn.int8 import Int8Linear, saturating_pairs
from tests.export.stand import run_network, tiny_model
from tests.tiny import WITH_VECTORS, padded_batch


def model_with_an_outlier(family: str = "bert") -> Model:
    """What the first layer's FFN reads has a feature 40 times as large as the others, read with small weights."""
    model = tiny_model(family)
    layer = model.family.layers(model.network)[0]
    with torch.no_grad():
        layer.attention_norm.weight[3] *= 40
        layer.ffn_in.weight[:, 3] /= 40
    return model


def test_divisors_by_hand() -> None:
    largest = torch.full((200,), 2.0)
    largest[7], largest[9], largest[150] = 17.0, 5.0, 2.5
    expected = torch.ones(200)
    expected[7], expected[9] = 8.0, 2.0  # 17 / 2 and 5 / 2 to the nearest powers of two; 2.5 / 2 to one
    assert torch.equal(divisors_of(largest), expected)


def test_nothing_is_divided_where_it_gains_less_than_a_bit() -> None:
    largest = torch.full((200,), 2.0)
    largest[7] = 3.9
    assert torch.equal(divisors_of(largest), torch.ones(200))
    assert torch.equal(divisors_of(torch.zeros(8)), torch.ones(8))


def test_features_that_nothing_reaches_are_left_alone() -> None:
    largest = torch.full((200,), 1.0)
    largest[0], largest[1] = 0.0, 1e6
    divisors = divisors_of(largest)
    assert (divisors[0], divisors[1]) == (1, 128)


def test_weights_are_multiplied_exactly_where_they_fit() -> None:
    linear = nn.Linear(4, 2, bias=False)
    linear.weight.data = torch.tensor([[127.0, 10.0, -3.0, 1.0], [127.0, 100.0, 0.0, 0.0]]) / 128
    module = Int8Linear.from_linear(linear, portable=False)
    scale = module.scale.clone()
    module.divide_features(torch.tensor([1.0, 4.0, 1.0, 1.0]), portable=False)
    assert module.matrix[0].tolist() == [127, 40, -3, 1]
    assert module.scale[0] == scale[0]
    assert module.matrix[1].tolist() == [40, 127, 0, 0]  # 400 does not fit: the row gets a larger scale
    assert module.scale[1] / scale[1] == pytest.approx(400 / 127, rel=2e-3)


@pytest.mark.parametrize("width", [64, 61])  # the last feature of an odd number is a pair of its own
def test_divided_products_stay_portable(width: int) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(width, 32)
    module = Int8Linear.from_linear(linear)
    divisor = torch.ones(width)
    divisor[::5] = 8
    module.divide_features(divisor, portable=True)
    assert not saturating_pairs(module.matrix).any()
    x = torch.randn(20, width) * divisor
    assert (module(x) - linear(x)).abs().max() < 0.1 * linear(x).abs().max()


def test_a_planted_feature_is_found_in_the_products_that_read_it() -> None:
    model = model_with_an_outlier()
    found = outlier_divisors(model, int8_products(model))
    name = next(name for name in found if name.endswith("layer.0.intermediate.dense"))
    assert int(found[name].argmax()) == 3
    assert found[name][3] >= 16
    assert int((found[name] > 1).sum()) == 1
    assert outlier_divisors(tiny_model(), [name]) == {}


@pytest.mark.parametrize("stored", ["fp32", "int8"])
def test_the_product_comes_nearer_to_fp32(stored: str) -> None:
    model, seen = model_with_an_outlier(), []
    exact = model.family.layers(model.network)[0].ffn_in
    name = next(name for name, module in model.network.named_modules() if module is exact)
    handle = exact.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    run_network(model, padded_batch("bert"))
    handle.remove()
    if stored == "int8":
        model = model.copy()
        edits.quantize_int8(model)
    errors = {}
    for outliers in (True, False):
        made, _ = variant(model, "int8", ExportConfig(precision="int8", outliers=outliers), Formats())
        with torch.inference_mode():
            wrong = made.network.get_submodule(name)(seen[0]) - exact(seen[0])
        errors[outliers] = float(wrong.square().mean().sqrt())
    assert errors[True] < 0.5 * errors[False]


@pytest.mark.parametrize("family", WITH_VECTORS)
def test_files_divide_once_and_agree_with_pytorch(family: str, tmp_path: Path) -> None:
    model = model_with_an_outlier(family)
    layer = model.family.layers(model.network)[1]
    with torch.no_grad():  # queries, keys and values of the second layer read it too
        model.family.layers(model.network)[0].ffn_norm.weight[5] *= 40
        for module in (layer.query, layer.key, layer.value):
            module.weight[:, 5] /= 40
    facts = export_onnx(model, tmp_path / "out", ExportConfig(precision="int8"))
    difference = facts.parity["int8"].block_difference
    assert difference is not None
    assert difference < 0.1
    products = [node.name for node in every_node(onnx.load(facts.files["int8"]).graph)]
    divided = [name for name in products if name.endswith(".divided")]
    assert {"layers.0.attended.divided", "layers.0.output.divided"} <= set(divided)
    assert len(divided) == len(set(divided))  # once for queries, keys and values


def test_static_ranges_are_taken_of_what_is_there() -> None:
    model = model_with_an_outlier()
    ranges = dict.fromkeys(int8_products(model), (-50.0, 50.0))
    settings = ExportConfig(precision="int8", activations="static")
    made, _ = variant(model, "int8", settings, Formats(ranges=ranges))
    assert all(m.divisor is None for m in made.network.modules() if isinstance(m, Int8Linear))

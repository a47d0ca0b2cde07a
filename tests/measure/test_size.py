from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from compressbert.errors import InputError
from compressbert.measure.size import component_of, onnx_facts
from tests.measure.graphs import VOCABULARY, WIDTH, write_graph
from tests.tiny import FAMILIES, tiny_network


def test_bytes_by_component_by_hand(tmp_path: Path) -> None:
    file = write_graph(tmp_path / "x.onnx", labels=3)
    found = onnx_facts(file)
    components = found.bytes_by_component
    assert components["embeddings"] == VOCABULARY * WIDTH * 4
    assert components["ffn"] == WIDTH * WIDTH * 4
    assert components["head"] == WIDTH * 3 * 4
    assert components["attention"] == 0
    assert found.bytes_on_disk == file.stat().st_size == sum(components.values())
    assert 0 < components["rest"] < 2000  # the graph itself
    assert found.initializers == 4


def test_int8_tensors_count_one_byte_and_sidecars_count(tmp_path: Path) -> None:
    arrays = {
        "a.layer.1.attention.self.query.weight": np.zeros((10, 7), np.int8),
        "classifier.scale": np.zeros(9, np.float32),
    }
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph([], "g", [], [], tensors)
    file = tmp_path / "x.onnx"
    onnx.save(
        helper.make_model(graph), file, save_as_external_data=True, location="x.data", size_threshold=32
    )
    found = onnx_facts(file)
    assert (found.bytes_by_component["attention"], found.bytes_by_component["head"]) == (70, 36)
    assert found.bytes_on_disk == file.stat().st_size + (tmp_path / "x.data").stat().st_size


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", ["classification", "masked-lm"])
def test_every_parameter_of_the_families_has_its_component(family: str, head: str) -> None:
    network = tiny_network(family, head=head)
    found: dict[str, int] = {}
    for name, parameter in network.named_parameters():
        component = component_of(name)
        found[component] = found.get(component, 0) + parameter.numel()
    assert found.pop("rest", 0) == (32 if family == "modernbert" else 0)  # the norm at its end
    layers, hidden, ffn = 1 if family == "albert" else 2, 32, 64  # ALBERT's two layers share their weights
    attention = layers * (4 * (hidden * hidden + hidden) + 2 * hidden)
    neurons = layers * (2 * hidden * ffn + ffn + hidden + 2 * hidden)
    if family == "modernbert":  # no biases, no norm before the first attention, a gate for every neuron
        attention, neurons = layers * 4 * hidden * hidden + hidden, layers * (3 * hidden * ffn + hidden)
    assert (found["attention"], found["ffn"]) == (attention, neurons)
    tables = sum(p.numel() for n, p in network.named_parameters() if "embedding" in n)
    assert found["embeddings"] == tables


def test_unreadable_file_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"\xff" * 50)
    for name in ("x.onnx", "none.onnx"):
        with pytest.raises(InputError, match=name):
            onnx_facts(tmp_path / name)

"""Counts against closed forms worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressbert.model import edits
from compressbert.model.checkpoint import save
from compressbert.model.count import facts
from tests.model.build import tiny_model
from tests.tiny import FAMILIES

V, P, T, H, I, L = 35, 64, 2, 32, 64, 2  # noqa: E741 - sizes of the tiny model


def layer_parameters(hidden: int, units: int, ffn: int) -> int:
    attention = 3 * (hidden * units + units) + units * hidden + hidden
    return attention + hidden * ffn + ffn + ffn * hidden + hidden + 4 * hidden


def test_bert_by_hand() -> None:
    counted = facts(tiny_model("bert"))
    embeddings = (V + P + T) * H + 2 * H
    head = H * H + H + 2 * H + 2
    assert counted.encoder_parameters == L * layer_parameters(H, H, I)
    assert counted.parameters == embeddings + L * layer_parameters(H, H, I) + head
    assert counted.nonzero_parameters == counted.parameters - H  # the padding row
    assert counted.encoder_nonzero_parameters is not None
    assert counted.encoder_nonzero_parameters <= counted.encoder_parameters
    assert counted.distinct_tensors == 5 + L * 16 + 4  # embeddings, layers, pooler and classifier
    assert counted.bytes_by_component == {
        "embeddings": 4 * embeddings,
        "attention": 4 * L * (4 * (H * H + H) + 2 * H),
        "ffn": 4 * L * (2 * H * I + I + H + 2 * H),
        "head": 4 * head,
        "rest": 0,
    }
    assert counted.macs_per_token == L * (4 * H * H + 2 * 128 * H + 2 * H * I)
    assert (counted.layers, counted.heads_per_layer, counted.ffn_per_layer) == (2, (4, 4), (64, 64))
    assert counted.hidden == 32


def test_pruned_by_hand() -> None:
    model = tiny_model("bert")
    edits.keep_heads(model, {0: [1]})
    edits.keep_neurons(model, {1: range(10)})
    counted = facts(model)
    assert counted.encoder_parameters == layer_parameters(H, 8, I) + layer_parameters(H, H, 10)
    assert counted.heads_per_layer == (1, 4)
    assert counted.ffn_per_layer == (64, 10)
    assert counted.macs_per_token == (4 * H * 8 + 256 * 8 + 2 * H * I) + (4 * H * H + 256 * H + 2 * H * 10)


@pytest.mark.parametrize("head", ["classification", "masked-lm"])
@pytest.mark.parametrize("family", FAMILIES)
def test_bytes_and_tied_tensors(family: str, head: str, tmp_path: Path) -> None:
    model = tiny_model(family, head=head)
    counted = facts(model)
    assert counted.parameters == sum(parameter.numel() for parameter in model.network.parameters())
    assert counted.bytes_on_disk == 4 * counted.parameters == sum(counted.bytes_by_component.values())
    assert counted.bytes_by_component["rest"] == (
        4 * H if family == "modernbert" else 0
    )  # the norm at its end
    save(model, tmp_path / "m")
    on_disk = facts(model, tmp_path / "m").bytes_on_disk
    assert on_disk == (tmp_path / "m" / "model.safetensors").stat().st_size
    assert 0 < on_disk - counted.bytes_on_disk < 10_000  # the header


def test_int8_counts_a_byte_a_weight() -> None:
    model = tiny_model("bert")
    before = facts(model)
    edits.quantize_int8(model)
    after = facts(model)
    assert after.parameters == before.parameters
    tables = (V + P) * H + 4 * (V + P) + 4 * (T * H + 2 * H)
    assert after.bytes_by_component["embeddings"] == tables
    assert after.bytes_by_component["ffn"] == L * (2 * H * I + 2 * 4 * (I + H) + 4 * 2 * H)

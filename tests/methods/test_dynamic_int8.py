"""Dynamic int8 as a method: which modules, which not. The arithmetic is tested with the modules."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compressbert.errors import ConfigError
from compressbert.methods.base import Run
from compressbert.methods.quantize.dynamic_int8 import Config, compress, select_modules
from compressbert.model.checkpoint import save
from compressbert.model.edits import keep_heads, keep_neurons
from compressbert.model.handle import Model
from compressbert.nn.int8 import Int8Embedding, Int8Linear
from tests.methods.toy import logits, same_weights, toy_model, weights
from tests.tiny import FAMILIES, padded_batch


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(work=tmp_path / "none")


def _int8(model: Model) -> set[str]:
    return {name for name, m in model.network.named_modules() if isinstance(m, Int8Linear | Int8Embedding)}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_matrix_of_the_encoder_becomes_int8_and_logits_stay_close(
    tmp_path: Path, run: Run, family: str
) -> None:
    model = toy_model(tmp_path, family)
    before = weights(model)
    quantized = compress(model, Config(), run)
    for layer in quantized.family.layers(quantized.network):
        products = {"query", "key", "value", "joined", "attention_out", "ffn_in", "gated", "ffn_out"}
        for kind in quantized.family.layer_at.keys() & products:
            assert isinstance(getattr(layer, kind), Int8Linear)
    assert isinstance(quantized.family.embeddings(quantized.network).word, Int8Embedding)
    assert same_weights(before, weights(model))
    difference = (logits(quantized, padded_batch(family)) - logits(model, padded_batch(family))).abs().max()
    assert 0 < difference < 0.2
    assert run.notes == [f"{len(_int8(quantized))} modules became int8."]


def test_embeddings_and_excluded_modules_stay_fp32(tmp_path: Path, run: Run) -> None:
    model = toy_model(tmp_path)
    everything = _int8(compress(model, Config(), run))
    without = _int8(compress(model, Config(embeddings=False), run))
    tables = {"bert.embeddings.word_embeddings", "bert.embeddings.position_embeddings"}
    assert everything - without == tables
    partly = _int8(compress(model, Config(exclude=("*.pooler.*", "*.layer.1.*")), run))
    assert everything - partly == {name for name in everything if ".pooler." in name or ".layer.1." in name}
    assert partly


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    assert select_modules(["a.query", "b.key"], ["*.key"]) == ["a.query"]
    with pytest.raises(ConfigError, match=r"'\*\.keys' matches no module"):
        select_modules(["a.query", "b.key"], ["*.keys"])


def test_int8_models_are_refused(tmp_path: Path, run: Run) -> None:
    quantized = compress(toy_model(tmp_path), Config(), run)
    with pytest.raises(ConfigError, match="int8 already"):
        compress(quantized, Config(), run)


def test_pruned_models_with_uneven_shapes_become_int8(tmp_path: Path, run: Run) -> None:
    model = toy_model(tmp_path)
    keep_heads(model, {0: [2]})
    keep_neurons(model, {1: list(range(10))})
    quantized = compress(model, Config(), run)
    torch.testing.assert_close(
        logits(quantized, padded_batch()), logits(model, padded_batch()), atol=0.2, rtol=0.1
    )


def test_the_file_shrinks_by_almost_four(tmp_path: Path, run: Run) -> None:
    model = toy_model(tmp_path, hidden=128, ffn=512)
    save(model, tmp_path / "dense")
    save(compress(model, Config(), run), tmp_path / "int8")
    dense, small = ((tmp_path / name / "model.safetensors").stat().st_size for name in ("dense", "int8"))
    assert 3.5 < dense / small < 4

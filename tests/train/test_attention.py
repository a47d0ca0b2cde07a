"""Attention in float32 while the rest trains in bfloat16."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from compressbert.data.batches import Batch
from compressbert.model.handle import Model
from compressbert.train.attention import attention_in_float32
from tests.tiny import FAMILIES, tiny_network
from tests.train.support import tiny_model, train


def test_it_computes_what_stock_attention_does_in_float32() -> None:
    network = tiny_network().eval()
    ids = torch.randint(5, 30, (3, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, 4:] = 0
    stock = network(input_ids=ids, attention_mask=mask).logits
    with attention_in_float32(network, enabled=True):
        assert torch.equal(network(input_ids=ids, attention_mask=mask).logits, stock)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_training_never_runs_attention_in_bfloat16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, precision: str
) -> None:
    seen: list[torch.dtype] = []
    fused = functional.scaled_dot_product_attention

    def watched(query: Tensor, *rest: Tensor, **more: object) -> Tensor:
        inside = fused(query, *rest, **more)
        seen.append(inside.dtype)
        return inside

    def loss(model: Model, batch: Batch) -> dict[str, Tensor]:
        return {"x": model(**batch.inputs).logits.square().mean()}

    monkeypatch.setattr(functional, "scaled_dot_product_attention", watched)
    model = tiny_model(family=family)
    train(model, tmp_path, loss=loss, settings={"precision": precision, "max_steps": 1})
    assert set(seen) == {torch.float32}
    assert model.network.config._attn_implementation == "sdpa"


def test_another_attention_stays_as_it_is() -> None:
    network = tiny_network()
    network.set_attn_implementation("eager")
    with attention_in_float32(network, enabled=True):
        assert network.config._attn_implementation == "eager"
    assert network.config._attn_implementation == "eager"

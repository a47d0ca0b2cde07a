"""Families: names lead to live modules, for every head and for the bare encoder."""

from __future__ import annotations

import pytest
from transformers import (
    CamembertConfig,
    CamembertForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

from compressbert.errors import InputError
from compressbert.model import edits
from compressbert.model.families import family_of
from compressbert.model.handle import Model
from compressbert.model.stock import plain
from tests.model.build import tiny_model
from tests.tiny import FAMILIES, padded_batch, tiny_network, tiny_tokenizer

SIZES = {
    "vocab_size": 35, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 66, "type_vocab_size": 1, "pad_token_id": 1,
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_paths_lead_to_the_live_modules(family: str) -> None:
    for network in (
        tiny_network(family),
        tiny_network(family).base_model,
        tiny_network(family, head="masked-lm"),
    ):
        found = family_of(network)
        assert found.name == family
        for index, layer in enumerate(found.layers(network)):
            for kind in found.layer_at:
                assert network.get_submodule(found.path(network, kind, index)) is getattr(layer, kind)
            assert network.get_submodule(found.path(network, "layer", index)) is found.blocks(network)[index]
            assert (layer.heads, layer.ffn) == (4, 64)
        embeddings = found.embeddings(network)
        assert embeddings.word is network.get_input_embeddings()
        if family != "modernbert":
            assert network.get_submodule(found.path(network, "position")) is embeddings.position
        assert embeddings.position.num_embeddings == (66 if family == "roberta" else 64)
        assert (embeddings.token_type is None) == (family in ("distilbert", "modernbert"))
        assert (embeddings.projection is not None) == (family in ("electra", "albert"))
        assert embeddings.position_offset == (2 if family == "roberta" else 0)
        assert found.head_size(network) == 8


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("bert", {"bert.pooler.dense", "classifier"}),
        ("roberta", {"classifier.dense", "classifier.out_proj"}),
        ("distilbert", {"pre_classifier", "classifier"}),
        ("electra", {"classifier.dense", "classifier.out_proj"}),
        ("albert", {"albert.pooler", "classifier"}),
        ("modernbert", {"model.final_norm", "head.dense", "head.norm", "classifier"}),
    ],
)
def test_head_modules(family: str, names: set[str]) -> None:
    network = tiny_network(family)
    assert set(family_of(network).head_modules(network)) == names


@pytest.mark.parametrize(
    ("network_class", "config_class"),
    [(CamembertForSequenceClassification, CamembertConfig), (XLMRobertaForMaskedLM, XLMRobertaConfig)],
)
def test_relatives_of_roberta(network_class: type, config_class: type) -> None:
    network = network_class(config_class(**SIZES)).eval()
    model = Model(network, tiny_tokenizer("roberta"), plain(network.config))
    assert model.family.name == "roberta"
    edits.keep_heads(model, {0: [1]})
    edits.keep_hidden(model, range(20))
    edits.quantize_int8(model)
    assert model(**padded_batch("roberta")).logits.isfinite().all()


def test_other_types_are_refused_by_name() -> None:
    with pytest.raises(
        InputError, match=r"'gpt2' are not supported\. Supported: albert, bert, camembert, distilbert"
    ):
        family_of("gpt2")


def test_eval_and_train_switch_dropout() -> None:
    model = tiny_model("bert")
    assert model.train().network.training
    assert not model.eval().network.training

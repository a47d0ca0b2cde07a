"""Edits: keeping all changes nothing, removing equals masking, wrong indices are refused, edits compose."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compressbert.errors import ConfigError, InputError
from compressbert.model import edits
from compressbert.model.edits import Edit
from compressbert.model.handle import Model
from compressbert.nn.int8 import Int8Embedding, Int8Linear
from tests.model.build import difference, logits, tiny_model
from tests.tiny import FAMILIES, own_weights, padded_batch

HEADS = ("classification", "masked-lm")


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_keeping_everything_changes_nothing(family: str, head: str) -> None:
    model = tiny_model(family, head=head)
    before = logits(model, family)
    edits.keep_layers(model, [0, 1])
    edits.keep_heads(model, {0: range(4), 1: [3, 2, 1, 0]})
    edits.keep_neurons(model, {1: range(64)})
    edits.keep_hidden(model, range(32))
    edits.quantize_int8(model, modules=[])
    assert difference(logits(model, family), before) == 0.0
    assert model.edits == []


@pytest.mark.parametrize("family", FAMILIES)
def test_removed_heads_equal_zeroed_columns(family: str) -> None:
    model = tiny_model(family, **own_weights(family))
    masked = model.copy()
    columns = masked.family.layers(masked.network)
    with torch.no_grad():
        columns[0].attention_out.weight[:, 8:16] = 0  # head 1 of width 8
        columns[0].attention_out.weight[:, 24:] = 0  # head 3
        columns[1].attention_out.weight[:, :24] = 0  # heads 0, 1, 2
    full = logits(model, family)
    edits.keep_heads(model, {0: [0, 2], 1: [3]})
    assert difference(logits(model, family), logits(masked, family)) <= 1e-6
    assert difference(logits(model, family), full) > 1e-3
    assert [layer.heads for layer in model.family.layers(model.network)] == [2, 1]
    assert model.family.head_size(model.network) == 8
    assert getattr(model.family.layers(model.network)[0].attention, "scaling", 8**-0.5) == 8**-0.5


@pytest.mark.parametrize("family", FAMILIES)
def test_removed_neurons_equal_zeroed_columns(family: str) -> None:
    model = tiny_model(family, **own_weights(family))
    masked = model.copy()
    with torch.no_grad():
        masked.family.layers(masked.network)[1].ffn_out.weight[:, 10:] = 0
    edits.keep_neurons(model, {1: range(10)})
    assert difference(logits(model, family), logits(masked, family)) <= 1e-6
    assert [layer.ffn for layer in model.family.layers(model.network)] == [64, 10]


@pytest.mark.parametrize("family", FAMILIES)
def test_kept_layers_are_those_named(family: str) -> None:
    model = tiny_model(family, layers=4, **own_weights(family, 4))
    before = model.family.layers(model.network)
    kept = [0, 3] if family == "modernbert" else [1, 3]
    edits.keep_layers(model, kept)
    after = model.family.layers(model.network)
    assert [layer.ffn_out for layer in after] == [before[index].ffn_out for index in kept]
    assert getattr(model.network.config, model.family.config_at["layers"]) == 2
    if hasattr(after[0].attention, "layer_idx"):
        assert [layer.attention.layer_idx for layer in after] == [0, 1]
    # the same as a stock network of two layers with these weights
    kinds = {"layer_types": ["full_attention"] * 2} if family == "modernbert" else {}  # of layers 0 and 3
    small = tiny_model(family, layers=2, **own_weights(family), **kinds)
    for ours, theirs in zip(after, small.family.layers(small.network), strict=True):
        for kind in model.family.layer_at.keys() - {"attention"}:
            getattr(theirs, kind).load_state_dict(getattr(ours, kind).state_dict())
    for name, tensor in model.network.state_dict().items():
        if f"{model.family.layers_at}." not in name:
            small.network.state_dict()[name].copy_(tensor)
    assert difference(logits(model, family), logits(small, family)) == 0.0


def reference_hidden(model: Model, keep: list[int], family: str) -> torch.Tensor:
    """The narrowed network by weights alone: dropped dimensions zero, every LayerNorm over the kept ones."""
    other = model.copy()

    def norm(module: nn.LayerNorm, given: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        x = given[0][..., keep]
        centred = (x - x.mean(-1, keepdim=True)) / (
            x.var(-1, unbiased=False, keepdim=True) + module.eps
        ).sqrt()
        full = torch.zeros_like(given[0])
        full[..., keep] = centred * module.weight[keep] + (0 if module.bias is None else module.bias[keep])
        return full

    for module in other.network.modules():
        if isinstance(module, nn.LayerNorm) and module.normalized_shape == (32,):
            module.register_forward_hook(lambda module, given, _: norm(module, given))
    return logits(other, family)


def silence(linear: nn.Module | None, rows: list[int]) -> None:
    assert isinstance(linear, nn.Linear)
    linear.weight[rows] = 0
    if linear.bias is not None:
        linear.bias[rows] = 0


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_narrowed_residual_stream_equals_norms_over_kept_dimensions(family: str, head: str) -> None:
    model = tiny_model(family, head=head)
    keep = [*range(3, 20), 24, 31]
    gone = [index for index in range(32) if index not in keep]
    with (
        torch.no_grad()
    ):  # what writes the stream without a LayerNorm after it writes nothing to dropped dimensions
        for name, module in model.family.head_modules(model.network).items():
            flow = model.family.head_at[name.removeprefix(model.family.encoder_prefix(model.network))]
            if isinstance(module, nn.Linear) and flow == ("hidden", "hidden"):
                silence(module, gone)
        if family in ("electra", "albert"):
            projection = model.family.embeddings(model.network).projection
            silence(projection, gone)
        if family == "modernbert":  # its norms come before what reads the stream
            for layer in model.family.layers(model.network):
                silence(layer.attention_out, gone)
                silence(layer.ffn_out, gone)
    expected = reference_hidden(model, keep, family)
    edits.keep_hidden(model, keep)
    assert difference(logits(model, family), expected) <= 5e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_tied_decoder_stays_tied(family: str) -> None:
    model = tiny_model(family, head="masked-lm", **({"embedding_size": 32} if family == "electra" else {}))
    edits.keep_hidden(model, range(20))
    assert model.network.get_output_embeddings().weight is model.network.get_input_embeddings().weight
    assert model.network.get_input_embeddings().weight.shape[1] == (16 if family == "albert" else 20)
    assert logits(model, family).isfinite().all()


def test_electra_head_in_embedding_space_is_left_alone() -> None:
    model = tiny_model("electra", head="masked-lm")
    edits.keep_hidden(model, range(16))  # now as wide as the embeddings, which stay
    edits.keep_hidden(model, range(12))
    assert model.network.generator_predictions.LayerNorm.normalized_shape == (16,)
    assert model.network.generator_lm_head.in_features == 16
    assert model.network.config.hidden_size == 32  # a stock network could not be both projected and this wide
    assert logits(model, "electra").isfinite().all()


def test_labels_as_many_as_dimensions_are_kept() -> None:
    model = tiny_model("bert", labels=32)
    edits.keep_hidden(model, range(8))
    assert logits(model, "bert").shape[1] == 32


def test_hidden_and_heads_that_fit_each_other_become_the_stock_sizes() -> None:
    model = tiny_model("bert")
    edits.keep_hidden(model, range(16))
    assert (model.network.config.hidden_size, model.network.config.num_attention_heads) == (32, 4)
    edits.keep_heads(model, {0: [0, 1], 1: [2, 3]})
    assert (model.network.config.hidden_size, model.network.config.num_attention_heads) == (16, 2)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_edits_compose_and_replay(family: str, head: str) -> None:
    model = tiny_model(family, layers=4, head=head, **own_weights(family, 4))
    edits.keep_layers(model, [0, 2, 3])
    edits.keep_heads(model, {0: [1], 2: [0, 1, 3]})
    edits.keep_neurons(model, {1: range(1, 64, 2)})
    edits.quantize_int8(model)
    edits.keep_neurons(model, {1: range(5)})  # slicing int8 weights is exact too
    again = tiny_model(family, layers=4, head=head, **own_weights(family, 4))
    edits.replay(again, model.edits)
    assert again.edits == model.edits
    ours, theirs = model.network.state_dict(), again.network.state_dict()
    assert {name: (value.shape, value.dtype) for name, value in ours.items()} == {
        name: (value.shape, value.dtype) for name, value in theirs.items()
    }
    again.network.load_state_dict(ours)
    assert difference(logits(model, family), logits(again, family)) == 0.0


def test_default_int8_modules() -> None:
    model = tiny_model("electra", head="classification")
    edits.quantize_int8(model)
    modules = dict(model.network.named_modules())
    assert isinstance(modules["electra.embeddings.word_embeddings"], Int8Embedding)
    assert isinstance(modules["electra.embeddings_project"], Int8Linear)
    assert type(modules["electra.embeddings.token_type_embeddings"]) is nn.Embedding
    assert type(modules["classifier.dense"]) is nn.Linear
    assert sum(isinstance(module, Int8Linear) for module in modules.values()) == 6 * 2 + 1
    count = len(model.edits)
    edits.quantize_int8(model)  # nothing is left to do
    assert len(model.edits) == count


@pytest.mark.parametrize("family", FAMILIES)
def test_int8_follows_fp32_closely_and_unties_the_decoder(family: str) -> None:
    model = tiny_model(family, head="masked-lm")
    before = logits(model, family)
    edits.quantize_int8(model)
    after = logits(model, family)
    assert torch.nn.functional.cosine_similarity(before.flatten(), after.flatten(), dim=0) > 0.99
    assert difference(before, after) > 0
    assert type(model.network.get_output_embeddings()) is nn.Linear
    with pytest.raises(ConfigError, match="int8 weights do not train"):
        model.train()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda model: edits.keep_layers(model, [0, 9]), "There is no layer 9 of 2"),
        (lambda model: edits.keep_layers(model, []), "No layer is left"),
        (lambda model: edits.keep_layers(model, [1, 1]), "layer 1 is named twice"),
        (lambda model: edits.keep_layers(model, [1, 0]), "ascending order"),
        (lambda model: edits.keep_layers(model, [-1]), "There is no layer -1 of 2"),
        (lambda model: edits.keep_heads(model, {1: []}), "No head is left in layer 1"),
        (lambda model: edits.keep_heads(model, {5: [0]}), "There is no layer 5 of 2"),
        (lambda model: edits.keep_heads(model, {0: [0], 1: [4]}), "There is no head 4 of 4 in layer 1"),
        (lambda model: edits.keep_neurons(model, {0: [64]}), "There is no neuron 64 of 64 in layer 0"),
        (lambda model: edits.keep_neurons(model, {0: [3, 3]}), "neuron 3 is named twice in layer 0"),
        (lambda model: edits.keep_hidden(model, []), "No hidden dimension is left"),
        (lambda model: edits.keep_hidden(model, [32]), "There is no hidden dimension 32 of 32"),
        (lambda model: edits.quantize_int8(model, modules=["bert.nothing"]), "not a module of this model"),
        (lambda model: edits.quantize_int8(model, modules=["classifier"] * 2), "named twice"),
        (
            lambda model: edits.quantize_int8(model, modules=["bert.embeddings.LayerNorm"]),
            "found a LayerNorm",
        ),
    ],
)
def test_wrong_edits_are_refused_and_change_nothing(edit: object, message: str) -> None:
    model = tiny_model("bert")
    before = logits(model, "bert")
    with pytest.raises(ConfigError, match=message):
        edit(model)  # type: ignore[operator]
    assert model.edits == []
    assert difference(logits(model, "bert"), before) == 0.0


def test_replay_refuses_what_it_does_not_know() -> None:
    with pytest.raises(InputError, match="'fold'"):
        edits.replay(tiny_model("bert"), [Edit("fold", {})])
    with pytest.raises(InputError, match="does not fit the model"):
        edits.replay(tiny_model("bert"), [Edit("keep_layers", {"layers": [7]})])
    with pytest.raises(InputError, match="does not fit the model"):
        edits.replay(tiny_model("bert"), [Edit("keep_heads", {})])


@settings(max_examples=25, deadline=None)
@given(
    first=st.sets(st.integers(0, 3), min_size=1),
    second=st.sets(st.integers(0, 3), min_size=1),
    neurons=st.sets(st.integers(0, 7), min_size=1),
)
def test_any_choice_of_heads_and_neurons_equals_its_mask(
    first: set[int], second: set[int], neurons: set[int]
) -> None:
    model = tiny_model("bert", ffn=8)
    masked = model.copy()
    with torch.no_grad():
        for layer, kept in zip(masked.family.layers(masked.network), (first, second), strict=True):
            for head in set(range(4)) - kept:
                layer.attention_out.weight[:, head * 8 : head * 8 + 8] = 0
            for neuron in set(range(8)) - neurons:
                layer.ffn_out.weight[:, neuron] = 0
    edits.keep_heads(model, {0: list(first), 1: list(second)})
    edits.keep_neurons(model, {0: list(neurons), 1: list(neurons)})
    assert difference(logits(model, "bert"), logits(masked, "bert")) <= 2e-6


def test_copy_shares_nothing() -> None:
    model = tiny_model("bert", head="masked-lm")
    edits.keep_heads(model, {0: [0]})
    twin = model.copy()
    ours = {tensor.data_ptr() for tensor in model.network.state_dict().values()}
    assert not ours & {tensor.data_ptr() for tensor in twin.network.state_dict().values()}
    assert twin.network.get_output_embeddings().weight is twin.network.get_input_embeddings().weight
    assert twin.network.config is not model.network.config
    assert twin.tokenizer is not model.tokenizer
    edits.keep_layers(twin, [1])
    twin.base_config["hidden_size"] = 0
    twin.edits[0].arguments["heads"]["0"] = []
    assert len(model.edits) == 1
    assert model.base_config["hidden_size"] == 32
    assert model.edits[0].arguments == {"heads": {"0": [0]}}
    assert model.network.config.num_hidden_layers == 2
    assert model(**padded_batch("bert")).logits.isfinite().all()

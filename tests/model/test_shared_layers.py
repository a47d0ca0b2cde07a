"""Layers that share their weights: a layer is a pass, weights are stored once, and cuts hold for all of a group."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AlbertForSequenceClassification, AutoModelForSequenceClassification

from compressbert.errors import ConfigError
from compressbert.model import edits
from compressbert.model.checkpoint import load, save
from compressbert.model.count import facts, macs_per_token
from compressbert.model.handle import Model
from compressbert.model.inside import first_layers, look_inside
from compressbert.model.stock import plain
from compressbert.model.student import Shape, build_student
from compressbert.nn.importance import head_importance
from compressbert.nn.int8 import Int8Linear
from tests.model.build import difference, logits, tiny_model
from tests.tiny import padded_batch, tiny_tokenizer


def albert(layers: int = 3, **options: Any) -> Model:
    return tiny_model("albert", layers=layers, **options)


def untied(model: Model) -> Model:
    """A copy in which every layer has weights of its own, equal to those it shared."""
    network = model.network
    config = copy.deepcopy(network.config)
    config.num_hidden_groups = config.num_hidden_layers
    other = AlbertForSequenceClassification(config).eval()
    tensors = dict(network.state_dict())
    shared = "albert.encoder.albert_layer_groups.0."
    for index in range(config.num_hidden_layers):
        for name, tensor in network.state_dict().items():
            if name.startswith(shared):
                tensors[name.replace("groups.0.", f"groups.{index}.")] = tensor
    other.load_state_dict(tensors)
    return Model(other, tiny_tokenizer("albert"), plain(config))


def test_parameters_count_once_and_arithmetic_for_every_pass() -> None:
    # embeddings (35 + 64 + 2)·16 and a norm, the map to 32, one block, pooler, classifier
    block = 4 * (32 * 32 + 32) + (32 * 64 + 64) + (64 * 32 + 32) + 2 * 64
    assert facts(albert(1)).parameters == facts(albert(6)).parameters
    found = facts(albert(6))
    assert found.parameters == 101 * 16 + 32 + (16 * 32 + 32) + block + (32 * 32 + 32) + 66
    assert found.encoder_parameters == block
    assert (found.layers, found.heads_per_layer, found.ffn_per_layer) == (6, (4,) * 6, (64,) * 6)
    assert found.bytes_by_component["embeddings"] == 4 * (101 * 16 + 32 + 16 * 32 + 32)
    assert found.bytes_by_component["rest"] == 0
    assert macs_per_token(albert(6)) == 6 * macs_per_token(albert(1))


def test_a_folder_holds_the_shared_weights_once_and_plain_transformers_opens_it(tmp_path: Path) -> None:
    model = albert(4)
    edits.keep_neurons(model, dict.fromkeys(range(4), range(20)))
    edits.keep_layers(model, [0, 3])
    save(model, tmp_path / "m")
    names = load_file(tmp_path / "m" / "model.safetensors").keys()
    assert sum("attention.query.weight" in name for name in names) == 1
    assert not (tmp_path / "m" / "modeling_compressbert.py").exists()
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path / "m")
    with torch.no_grad():
        assert difference(stock(**padded_batch("albert")).logits, logits(model, "albert")) == 0.0
    assert difference(logits(load(tmp_path / "m"), "albert"), logits(model, "albert")) == 0.0


def test_int8_weights_are_made_and_stored_once(tmp_path: Path) -> None:
    model = albert(4)
    edits.quantize_int8(model)
    assert sum(isinstance(module, Int8Linear) for module in model.network.modules()) == 6 + 2  # map, pooler
    save(model, tmp_path / "m")
    stored = load_file(tmp_path / "m" / "model.safetensors")
    assert sum(name.endswith("attention.query.weight") for name in stored) == 1
    assert difference(logits(load(tmp_path / "m"), "albert"), logits(model, "albert")) == 0.0


def test_fewer_layers_are_fewer_passes() -> None:
    model = albert(4)
    edits.keep_layers(model, [1, 3])
    short = albert(2)
    short.network.load_state_dict(model.network.state_dict())
    assert difference(logits(model, "albert"), logits(short, "albert")) == 0.0
    assert len(model.family.layers(model.network)) == 2


def test_groups_that_no_layer_needs_are_removed() -> None:
    model = albert(6, num_hidden_groups=3)
    assert model.family.owners(model.network) == [0, 0, 2, 2, 4, 4]
    before = model.family.blocks(model.network)
    edits.keep_layers(model, [0, 1, 4, 5])
    assert model.family.blocks(model.network) == [before[0], before[0], before[4], before[4]]
    assert (model.network.config.num_hidden_layers, model.network.config.num_hidden_groups) == (4, 2)
    again = albert(6, num_hidden_groups=3)
    edits.replay(again, model.edits)
    again.network.load_state_dict(model.network.state_dict())
    assert difference(logits(model, "albert"), logits(again, "albert")) == 0.0


def test_layers_that_would_take_turns_otherwise_are_refused() -> None:
    model = albert(6, num_hidden_groups=2)
    with pytest.raises(ConfigError, match="share their weights in 2 groups"):
        edits.keep_layers(model, [0, 1, 2, 3])
    with pytest.raises(ConfigError, match="layers run in sets of 2"):
        edits.keep_layers(albert(2, inner_group_num=2), [0, 1, 2])
    assert model.edits == []


def test_groups_of_several_blocks_are_several_layers() -> None:
    model = albert(2, inner_group_num=2)
    assert model.family.owners(model.network) == [0, 1, 0, 1]
    before = logits(model, "albert")
    undo = model.family.run_blocks(model.network, model.family.blocks(model.network))
    assert difference(logits(model, "albert"), before) == 0.0
    undo()
    edits.keep_layers(model, [2, 3])
    assert model.network.config.num_hidden_layers == 1
    assert len(model.family.layers(model.network)) == 2


def test_heads_and_neurons_go_in_all_layers_of_a_group() -> None:
    model = albert()
    masked = model.copy()
    block = masked.family.layers(masked.network)[0]
    with torch.no_grad():
        block.attention_out.weight[:, 8:16] = 0  # type: ignore[index]
        block.ffn_out.weight[:, 10:] = 0  # type: ignore[index]
    edits.keep_heads(model, {layer: [0, 2, 3] for layer in range(3)})
    edits.keep_neurons(model, dict.fromkeys(range(3), range(10)))
    assert difference(logits(model, "albert"), logits(masked, "albert")) <= 1e-6
    assert facts(model).heads_per_layer == (3, 3, 3)


@pytest.mark.parametrize("heads", [{0: [0, 1]}, {0: [0], 1: [0], 2: [1]}])
def test_different_heads_in_layers_that_share_weights_are_refused(heads: dict[int, list[int]]) -> None:
    model = albert()
    with pytest.raises(ConfigError, match="Layers 0, 1, 2 share their weights, so they keep the same heads"):
        edits.keep_heads(model, heads)
    assert model.edits == []


def test_every_pass_is_seen_apart() -> None:
    model = albert()
    other = untied(model)
    batch = padded_batch("albert")
    for _ in range(2):  # turns are counted anew
        ours, theirs = (look_inside(each, batch, layers=(0, 2)) for each in (model, other))
        assert len(ours.hidden) == 4
        for one, two in zip(ours.hidden, theirs.hidden, strict=True):
            assert torch.equal(one, two)
        for kind in ("query", "key", "value"):
            assert ours.vectors[kind].keys() == {0, 2}
            assert all(torch.equal(ours.vectors[kind][at], theirs.vectors[kind][at]) for at in (0, 2))
    assert not torch.equal(ours.vectors["query"][0], ours.vectors["query"][2])


def test_the_lower_layers_run_alone_and_come_back() -> None:
    model = albert(4, num_hidden_groups=2)
    batch = padded_batch("albert")
    with torch.no_grad():
        states = look_inside(model, batch).hidden
        before = model(**batch).logits
        with first_layers(model, 3) as lower:
            assert torch.equal(lower(**batch).last_hidden_state, states[3])
        assert torch.equal(model(**batch).logits, before)


def test_gradients_of_shared_weights_are_sums_over_layers() -> None:
    model = albert()
    other = untied(model)
    for each in (model, other):
        each(**padded_batch("albert")).logits.square().sum().backward()
    ours = model.family.layers(model.network)[0].query.weight.grad
    theirs = [layer.query.weight.grad for layer in other.family.layers(other.network)]
    assert torch.allclose(ours, torch.stack(theirs).sum(0), atol=1e-5)


def test_a_head_has_one_gate_for_all_its_layers() -> None:
    model = albert()
    batch = padded_batch("albert", lengths=(7,))
    (projection,) = {layer.attention_out for layer in model.family.layers(model.network)}
    found = head_importance([projection], 8, [batch], lambda each: model(**each).logits[:, 0].sum())
    gates = torch.ones(4, requires_grad=True)
    handle = projection.register_forward_pre_hook(
        lambda _, given: (given[0] * gates.repeat_interleave(8), *given[1:])
    )
    model(**batch).logits[:, 0].sum().backward()
    handle.remove()
    assert torch.allclose(found[0].float(), gates.grad.abs(), atol=1e-5)  # type: ignore[union-attr]


def test_a_narrower_student_starts_from_the_shared_block() -> None:
    teacher = albert(4)
    student = build_student(teacher, Shape((0, 2), hidden=16, heads=2, ffn=24), init="teacher")
    own = student.family.layers(student.network)
    theirs = teacher.family.layers(teacher.network)[0]
    assert len(own) == 2
    assert own[0].ffn_in is own[1].ffn_in
    assert isinstance(own[0].ffn_in, nn.Linear)
    assert torch.equal(own[0].ffn_in.weight, theirs.ffn_in.weight[:24, :16])  # type: ignore[index]
    words = student.family.embeddings(student.network)
    assert torch.equal(words.word.weight, teacher.network.get_input_embeddings().weight)
    random = build_student(teacher, Shape((0, 1, 2, 3, 4, 5)), init="random")
    assert len(random.family.layers(random.network)) == 6


def test_a_student_whose_groups_differ_is_refused() -> None:
    teacher = albert(6, num_hidden_groups=2)
    with pytest.raises(ConfigError, match="share their weights otherwise"):
        build_student(teacher, Shape((0, 3, 4, 5), ffn=24), init="teacher")

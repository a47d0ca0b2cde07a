"""MPNet: a family whose attention adds a bias for distances, whose layers give tuples, and whose heads stay."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from compressbert.errors import ConfigError
from compressbert.methods.prune.layerdrop import dropped_layers
from compressbert.model import edits
from compressbert.model.checkpoint import load, save
from compressbert.model.count import facts
from compressbert.model.inside import first_layers, look_inside
from compressbert.model.student import Shape, build_student
from tests.model.build import difference, logits, tiny_model
from tests.tiny import padded_batch


def test_layers_and_neurons_are_cut_and_plain_transformers_opens_the_folder(tmp_path: Path) -> None:
    model = tiny_model("mpnet", layers=3)
    edits.keep_layers(model, [0, 2])
    edits.keep_neurons(model, {0: range(20), 1: range(5, 25)})
    save(model, tmp_path / "m")
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path / "m")
    with torch.no_grad():
        assert difference(stock(**padded_batch("mpnet")).logits, logits(model, "mpnet")) == 0.0
    assert difference(logits(load(tmp_path / "m"), "mpnet"), logits(model, "mpnet")) == 0.0


def test_heads_stay(tmp_path: Path) -> None:
    model = tiny_model("mpnet")
    with pytest.raises(ConfigError, match="heads cannot be cut"):
        edits.keep_heads(model, {0: [0, 1]})
    edits.keep_heads(model, {0: range(4)})
    assert model.edits == []


def test_int8_leaves_the_biases_at_fp32(tmp_path: Path) -> None:
    model = tiny_model("mpnet", head="masked-lm")
    edits.quantize_int8(model)
    save(model, tmp_path / "m")
    stored = load_file(tmp_path / "m" / "model.safetensors")
    assert stored["mpnet.encoder.relative_attention_bias.weight"].dtype == torch.float32
    assert difference(logits(load(tmp_path / "m"), "mpnet"), logits(model, "mpnet")) == 0.0


def test_every_tensor_is_counted_where_it_belongs() -> None:
    counted = facts(tiny_model("mpnet"))
    assert counted.bytes_by_component["rest"] == 0
    assert counted.bytes_by_component["attention"] == 4 * (2 * (4 * (32 * 32 + 32) + 2 * 32) + 32 * 4)


def test_states_are_seen_and_attention_is_refused() -> None:
    model = tiny_model("mpnet", layers=3)
    batch = padded_batch("mpnet")
    with torch.no_grad():
        seen = look_inside(model, batch)
        stock = model.network(**batch, output_hidden_states=True)
        for ours, theirs in zip(seen.hidden, stock.hidden_states, strict=True):
            assert torch.equal(ours, theirs)
        with first_layers(model, 2) as lower:
            assert torch.equal(lower(**batch).last_hidden_state, seen.hidden[2])
    with pytest.raises(ConfigError, match="adds a bias to its scores"):
        look_inside(model, batch, layers=(0,))


def test_skipped_layers_hand_their_input_on() -> None:
    model = tiny_model("mpnet")
    for module in model.network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.train()
    with dropped_layers(model.family.blocks(model.network), 1.0, as_tuple=True), torch.no_grad():
        states = model(**padded_batch("mpnet"), output_hidden_states=True).hidden_states
    assert torch.equal(states[0], states[-1])


def test_a_narrower_student_is_cut_from_its_teacher() -> None:
    teacher = tiny_model("mpnet", layers=4)
    student = build_student(teacher, Shape((0, 2), hidden=16, heads=4, ffn=24), init="teacher")
    assert logits(student, "mpnet").isfinite().all()
    own, theirs = (model.family.layers(model.network) for model in (student, teacher))
    assert torch.equal(own[1].ffn_in.weight, theirs[2].ffn_in.weight[:24, :16])  # type: ignore[index]

"""Compact networks: the paper's shapes to the exact parameter, and training without a teacher."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from compressbert.methods.distill.compact import SIZES, Config, compress, shaped
from compressbert.model.count import facts
from tests.methods.toy import same_weights, toy_model, toy_run, weights


@pytest.mark.parametrize(
    ("size", "millions"), [("tiny", 4.386), ("mini", 11.171), ("small", 28.764), ("medium", 41.373)]
)
def test_named_shapes_have_the_published_number_of_parameters(size: str, millions: float) -> None:
    config = shaped(Config(size=size))
    stock = BertConfig(
        num_hidden_layers=config.layers, hidden_size=config.hidden, num_attention_heads=config.heads,
        intermediate_size=config.ffn,
    )  # fmt: skip
    with torch.device("meta"):
        network = BertModel(stock)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(millions * 1e6, abs=1e3)
    assert config.hidden == 64 * config.heads


def test_what_is_set_beats_the_named_shape() -> None:
    assert shaped(Config(size="tiny", layers=3)).layers == 3
    assert shaped(Config(size="tiny", layers=3)).hidden == SIZES["tiny"][1]
    assert shaped(Config(layers=3)) == Config(layers=3)


def test_a_random_network_may_be_deeper_than_the_model_that_lends_its_vocabulary(tmp_path: Path) -> None:
    model = toy_model(tmp_path)
    student = compress(model, Config(layers=3, hidden=16), toy_run(tmp_path, model))
    assert facts(student).heads_per_layer == (4, 4, 4)


def test_no_teacher_is_asked(tmp_path: Path) -> None:
    model, other = toy_model(tmp_path), toy_model(tmp_path, seed=9)
    first = compress(model, Config(layers=1), toy_run(tmp_path, model))
    second = compress(other, Config(layers=1), toy_run(tmp_path, other, work="other"))
    assert same_weights(weights(first), weights(second))  # the model's weights play no part
    cut = compress(model, Config(layers=1, init="teacher"), toy_run(tmp_path, model, work="cut"))
    assert not same_weights(weights(first), weights(cut))


def test_the_loss_is_the_tasks_own(tmp_path: Path) -> None:
    for task, head in (("sequence-classification", "classification"), ("masked-lm", "masked-lm")):
        model = toy_model(tmp_path, head=head)
        run = toy_run(tmp_path, model, task=task, work=task)
        compress(model, Config(layers=1), run)
        assert run.log[-1]["task"] == pytest.approx(run.log[-1]["loss"])

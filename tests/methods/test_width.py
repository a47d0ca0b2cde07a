"""Width pruning: groups from torch-pruning, cuts through our edits, exact budgets, no known trap."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch_pruning

from compressbert.errors import ConfigError
from compressbert.methods.base import Run
from compressbert.methods.prune.width import (
    Config,
    accumulate_gradients,
    compress,
    example_inputs,
    group_scores,
)
from compressbert.model.handle import Model
from tests.methods.toy import logits, same_weights, toy_model, toy_run, weights
from tests.tiny import WITH_VECTORS, padded_batch

PLAIN = {"retune_epochs": 0, "importance": "magnitude"}


def _run(tmp_path: Path) -> Run:
    return Run.create(work=tmp_path / "none")


def _widths(model: Model) -> list[int]:
    return [layer.ffn for layer in model.family.layers(model.network)]


def _parameters(model: Model) -> int:
    return sum(parameter.numel() for parameter in model.network.parameters())


@pytest.mark.parametrize("family", WITH_VECTORS)
def test_ffn_pruning_equals_zeroed_columns(tmp_path: Path, family: str) -> None:
    model = toy_model(tmp_path, family)
    pruned = compress(model, Config(ffn_keep=0.25, **PLAIN), _run(tmp_path))
    kept = pruned.edits[-1].arguments["neurons"]
    masked = model.copy()
    with torch.no_grad():
        for index, layer in enumerate(masked.family.layers(masked.network)):
            gone = [neuron for neuron in range(64) if neuron not in kept[str(index)]]
            layer.ffn_out.weight[:, gone] = 0
    assert _widths(pruned) == [16, 16]
    inputs = padded_batch(family)
    torch.testing.assert_close(logits(pruned, inputs), logits(masked, inputs), rtol=1e-5, atol=1e-6)
    stored = 1 if family == "albert" else 2  # ALBERT's two layers share their weights
    assert _parameters(model) - _parameters(pruned) == stored * 48 * (2 * 32 + 1)


def test_magnitude_is_the_groups_mean_squared_norm(tmp_path: Path) -> None:
    model = toy_model(tmp_path)
    layer = model.family.layers(model.network)[0]
    ffn, _ = group_scores(model, "magnitude")
    expected = (
        layer.ffn_in.weight.square().sum(1) + layer.ffn_out.weight.square().sum(0)
    ).detach().double() / 2
    torch.testing.assert_close(ffn[0], expected / expected.mean(), rtol=1e-5, atol=1e-6)


def test_taylor_is_weight_times_gradient_over_the_group(tmp_path: Path) -> None:
    model = toy_model(tmp_path)
    run = toy_run(tmp_path, model)
    accumulate_gradients(model, run.sample_batches(model, 32), run)
    layer = model.family.layers(model.network)[1]
    ffn, _ = group_scores(model, "taylor")
    inward = (layer.ffn_in.weight * layer.ffn_in.weight.grad).abs().sum(1)
    outward = (layer.ffn_out.weight * layer.ffn_out.weight.grad).abs().sum(0)
    torch.testing.assert_close(ffn[1], ((inward + outward) / 2).detach().double(), rtol=1e-4, atol=1e-7)


def test_a_dead_neuron_goes_first(tmp_path: Path) -> None:
    for importance in ("magnitude", "taylor"):
        model = toy_model(tmp_path)
        layer = model.family.layers(model.network)[0]
        with torch.no_grad():
            layer.ffn_in.weight[8:16] = 0
            layer.ffn_out.weight[:, 8:16] = 0
        config = Config(ffn_keep=0.875, round_to=8, importance=importance, retune_epochs=0)
        pruned = compress(model, config, toy_run(tmp_path, model))
        assert pruned.edits[-1].arguments["neurons"]["0"] == [*range(8), *range(16, 64)]


@pytest.mark.parametrize("family", WITH_VECTORS)
@pytest.mark.parametrize("head", ["classification", "masked-lm"])
def test_hidden_width_stays_consistent_everywhere(tmp_path: Path, family: str, head: str) -> None:
    model = toy_model(tmp_path, family, head=head)
    pruned = compress(model, Config(hidden_keep=0.75, round_to=8, ffn_keep=1.0, **PLAIN), _run(tmp_path))
    assert [edit.op for edit in pruned.edits] == ["keep_hidden"]
    for layer in pruned.family.layers(pruned.network):
        assert layer.heads == 4  # heads keep their number and their size
        assert (layer.query.in_features, layer.query.out_features) == (24, 32)
        assert (layer.attention_out.in_features, layer.attention_out.out_features) == (32, 24)
        assert layer.ffn_norm.normalized_shape == (24,)
    assert torch.isfinite(logits(pruned, padded_batch(family))).all()
    if head == "masked-lm":  # the decoder stays tied to the word table
        decoder, table = pruned.network.get_output_embeddings(), pruned.network.get_input_embeddings()
        assert decoder.weight is table.weight


def test_layer_scope_is_even_and_global_scope_lets_layers_compete(tmp_path: Path) -> None:
    model = toy_model(tmp_path)
    run = toy_run(tmp_path, model)
    with torch.no_grad():  # the second layer is nearly useless to the task
        model.family.layers(model.network)[1].ffn_out.weight.mul_(1e-3)
    even = compress(model, Config(scope="layer", importance="taylor", retune_epochs=0), run)
    uneven = compress(model, Config(scope="global", importance="taylor", retune_epochs=0), run)
    assert _widths(even) == [32, 32]
    assert _widths(uneven)[0] > _widths(uneven)[1] >= 8
    assert all(width % 8 == 0 for width in _widths(uneven))
    assert torch.isfinite(logits(uneven, padded_batch())).all()


def test_a_second_pruning_in_the_same_process_behaves_like_the_first(tmp_path: Path) -> None:
    model = toy_model(tmp_path)
    config = Config(hidden_keep=0.5, ffn_keep=0.25, **PLAIN)
    first, second = (compress(model, config, _run(tmp_path)) for _ in range(2))
    assert [edit.to_json() for edit in first.edits] == [edit.to_json() for edit in second.edits]
    assert same_weights(weights(first), weights(second))


def test_scoring_changes_nothing(tmp_path: Path) -> None:
    model = toy_model(tmp_path)
    before, shapes = weights(model), copy.deepcopy([p.shape for p in model.network.parameters()])
    group_scores(model, "magnitude")
    assert same_weights(before, weights(model))
    assert [p.shape for p in model.network.parameters()] == shapes


def test_the_residual_group_covers_embeddings_norms_and_head(tmp_path: Path) -> None:
    network = toy_model(tmp_path).network
    model = toy_model(tmp_path)
    graph = torch_pruning.DependencyGraph().build_dependency(
        model.network,
        example_inputs=example_inputs(model),
        output_transform=lambda output: output.logits.sum(),
    )
    root = model.family.layers(model.network)[0].ffn_out
    group = graph.get_pruning_group(root, torch_pruning.prune_linear_out_channels, [0])
    names = {
        name
        for name, module in model.network.named_modules()
        if any(dep.target.module is module for dep, _ in group)
    }
    norms = {name for name, module in network.named_modules() if isinstance(module, torch.nn.LayerNorm)}
    assert norms <= names
    assert {
        "bert.embeddings.word_embeddings",
        "bert.pooler.dense",
        "bert.encoder.layer.1.attention.self.key",
    } <= names
    assert "classifier" not in names


def test_retune_uses_the_dense_model_as_teacher(tmp_path: Path) -> None:
    model = toy_model(tmp_path)
    run = toy_run(tmp_path, model)
    pruned = compress(model, Config(), run)
    assert {"soft", "task"} <= run.log[0].keys()
    assert not same_weights(weights(pruned), weights(compress(model, Config(**PLAIN), run)))


def test_data_is_needed_only_where_it_is_read(tmp_path: Path) -> None:
    model = toy_model(tmp_path)
    assert _widths(compress(model, Config(**PLAIN), _run(tmp_path))) == [32, 32]
    for config in (Config(), Config(importance="taylor", retune_epochs=0)):
        with pytest.raises(ConfigError, match="training data"):
            compress(model, config, _run(tmp_path))

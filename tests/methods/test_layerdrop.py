"""LayerDrop: which layers go, and that skipping in training is what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from compressbert.errors import ConfigError, WorkError
from compressbert.methods.base import Run
from compressbert.methods.knowledge import task_loss
from compressbert.methods.prune.layerdrop import Config, compress, dropped_layers, layers_after
from compressbert.model.edits import keep_layers
from tests.methods.toy import logits, same_weights, toy_model, toy_run, weights
from tests.tiny import FAMILIES, padded_batch


@pytest.mark.parametrize(
    ("remove", "layers", "expected"),
    [
        ("top", 4, (0, 1, 2, 3)),
        ("bottom", 4, (2, 3, 4, 5)),
        ("alternate", 3, (0, 2, 4)),
        ("top", None, (0, 1, 2)),
        ((5, 0), None, (1, 2, 3, 4)),
        ((), None, (0, 1, 2, 3, 4, 5)),
        ("top", 6, (0, 1, 2, 3, 4, 5)),
    ],
)
def test_layers_that_stay(
    remove: str | tuple[int, ...], layers: int | None, expected: tuple[int, ...]
) -> None:
    assert layers_after(6, remove, layers) == expected


def test_impossible_removals() -> None:
    with pytest.raises(ConfigError, match="9 of 6"):
        layers_after(6, "top", 9)
    with pytest.raises(ConfigError, match="no layer 6"):
        layers_after(6, (6,), None)
    with pytest.raises(ConfigError, match="removes all 2 layers"):
        layers_after(2, (0, 1), None)
    with pytest.raises(ValidationError, match="say it twice"):
        Config(remove=(1,), layers=3)
    for rate in (-0.1, 1.0):
        with pytest.raises(ValidationError):
            Config(rate=rate)


@pytest.mark.parametrize("family", FAMILIES)
def test_dropping_nothing_is_identical_and_dropping_all_reads_the_embeddings(
    tmp_path: Path, family: str
) -> None:
    model = (
        toy_model(tmp_path, family, hidden_dropout_prob=0.0)
        if family != "distilbert"
        else toy_model(tmp_path, family, dropout=0.0)
    )
    for module in model.network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    batch = padded_batch(family)
    layers = model.family.blocks(model.network)
    expected = logits(model, batch)
    model.train()
    for layer in model.family.layers(model.network):
        layer.attention.eval()  # attention has its own dropout
    with dropped_layers(layers, 0.0):
        torch.testing.assert_close(logits(model, batch), expected)
    with dropped_layers(layers, 1.0), torch.no_grad():
        states = model(**batch, output_hidden_states=True).hidden_states
    final = model.family.final_norm(model.network) or torch.nn.Identity()
    assert torch.equal(final(states[0]), states[-1])
    model.eval()
    with dropped_layers(layers, 1.0):  # evaluation never skips
        torch.testing.assert_close(logits(model, batch), expected)
    assert not any("forward" in layer.__dict__ for layer in layers)


def test_expected_share_of_layers_runs(tmp_path: Path) -> None:
    blocks = torch.nn.ModuleList(torch.nn.Identity() for _ in range(4))
    runs = []
    for block in blocks:
        block.forward = lambda x: (runs.append(1), x)[1]
    torch.manual_seed(0)
    with dropped_layers(blocks, 0.2):
        for _ in range(2500):
            for block in blocks:
                block(torch.zeros(1))
    assert len(runs) / 10_000 == pytest.approx(0.8, abs=3 * (0.2 * 0.8 / 10_000) ** 0.5)


def test_plain_removal_needs_no_data_and_keeps_weights(tmp_path: Path) -> None:
    model = toy_model(tmp_path, layers=4)
    run = Run.create(work=tmp_path / "none")
    pruned = compress(model, Config(remove="bottom", layers=2, retune_epochs=0), run)
    expected = model.copy()
    keep_layers(expected, [2, 3])
    assert same_weights(weights(pruned), weights(expected))
    assert run.notes == ["Layers kept: 2, 3 of 4."]
    assert [layer.attention.layer_idx for layer in pruned.family.layers(pruned.network)] == [0, 1]


def test_training_with_dropout_then_removal_then_retune(tmp_path: Path) -> None:
    model = toy_model(tmp_path, layers=3)
    run = toy_run(tmp_path, model)
    compress(model, Config(rate=0.3, remove="alternate", layers=2), run)
    stages = [set(entry) for entry in run.log]
    assert any("soft" in stage for stage in stages)  # the re-tune, with the dense model as teacher
    assert any("soft" not in stage for stage in stages)  # the training before the cut, on the task alone
    plain = compress(model, Config(layers=2, remove="alternate"), toy_run(tmp_path, model, work="plain"))
    dropped = compress(model, Config(layers=2, remove="alternate", rate=0.3), toy_run(tmp_path, model))
    assert not same_weights(weights(plain), weights(dropped))


def test_a_killed_training_resumes_with_the_same_skips(tmp_path: Path) -> None:
    model = toy_model(tmp_path, layers=3)

    def train(work: str, dies_at: int | None) -> dict[str, torch.Tensor]:
        run = toy_run(
            tmp_path, model, work=work, settings={"max_steps": 8, "epochs": 3, "checkpoint_every": 2}
        )
        student = model.copy()
        student.network.requires_grad_(True)

        def die(step: int, total: int) -> None:
            if step == dies_at:
                raise WorkError("killed")

        with dropped_layers(student.family.blocks(student.network), 0.5):
            run.fit(student, task_loss(run), stage="layerdrop", before_step=die)
        return weights(student)

    whole = train("whole", None)
    with pytest.raises(WorkError, match="killed"):
        train("killed", 5)
    assert same_weights(train("killed", None), whole)


def test_needs_follow_the_settings() -> None:
    assert Config().needs(("data",)) == ("data",)
    assert Config(retune_epochs=0).needs(("data",)) == ()
    assert Config(retune_epochs=0, rate=0.2).needs(("data",)) == ("data",)

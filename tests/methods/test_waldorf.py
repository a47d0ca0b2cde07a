"""WaLDORf: auto-encoded states, what the losses read, and which tasks the students learn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from compressbert.errors import ConfigError
from compressbert.methods.distill.waldorf import (
    Config,
    StateEncoder,
    compress,
    config_of,
    state_encoders,
    states_loss,
)
from compressbert.methods.registry import find_method
from compressbert.model.handle import Model
from tests.methods.toy import logits, toy_model, toy_run
from tests.tiny import padded_batch

MASK = padded_batch()["attention_mask"]


def test_sizes_follow_the_teacher(tmp_path: Path) -> None:
    sizes = config_of(toy_model(tmp_path, layers=3), Config())
    assert (sizes.num_hidden_layers, sizes.hidden_size, sizes.num_attention_heads) == (3, 16, 1)
    assert (sizes.intermediate_size, sizes.embedding_size, sizes.stride, sizes.kernel) == (64, 8, 2, 4)
    assert config_of(toy_model(tmp_path, layers=12), Config()).num_hidden_layers == 8  # the survey's number


def test_it_is_marked_as_a_reconstruction(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    run = toy_run(tmp_path, teacher)
    compress(teacher, Config(), run)
    assert any("reconstruction" in note for note in run.notes)
    survey = find_method("waldorf").survey
    assert survey is not None
    assert "reconstruction" in survey["remark"]


def test_codes_have_the_students_length_and_width_and_do_not_read_padding() -> None:
    torch.manual_seed(0)
    encoder = StateEncoder(6, 4, kernel=4, stride=2)
    states = torch.randn(3, 9, 6)
    codes = encoder(states, MASK)
    assert codes.shape == (3, 5, 4)
    changed = states.masked_fill(~MASK.bool().unsqueeze(-1), 7.0)
    assert torch.equal(encoder(changed, MASK)[1, :3], codes[1, :3])  # 5 real tokens make 3 positions
    torch.testing.assert_close(encoder.loss(changed, MASK), encoder.loss(states, MASK))


def test_a_perfect_auto_encoder_loses_nothing() -> None:
    """Stride 1, kernel 1 and identity maps: codes are the normalised states, and so is what comes back."""
    encoder = StateEncoder(4, 4, kernel=1, stride=1)
    with torch.no_grad():
        for conv in (encoder.encode.conv, encoder.decode.conv):
            conv.weight.copy_(torch.eye(4).unsqueeze(-1))
            conv.bias.zero_()
    states = torch.randn(3, 9, 4) * 5 + 2
    torch.testing.assert_close(
        encoder(states, MASK), functional.layer_norm(states, (4,)) * MASK.unsqueeze(-1)
    )
    assert float(encoder.loss(states, MASK).detach()) == pytest.approx(0, abs=1e-6)


def test_from_the_teacher_codes_start_as_means_of_states(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    sizes = config_of(teacher, Config(init="teacher"))
    assert (sizes.hidden_size, sizes.num_attention_heads, sizes.intermediate_size) == (32, 4, 64)  # its own
    encoder = state_encoders(teacher, sizes, seed=0, init="teacher")[0]
    states = torch.randn(1, 4, 32)
    means = functional.layer_norm(states, (32,)).unflatten(1, (2, 2)).mean(2)
    codes = encoder(states, torch.ones(1, 4, dtype=torch.long))
    torch.testing.assert_close(codes, functional.layer_norm(means, (32,)))


def test_states_are_compared_with_the_matched_layers_codes(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    encoders = state_encoders(teacher, config_of(teacher, Config(layers=1)), seed=0)
    torch.manual_seed(1)
    hidden = [torch.randn(3, 9, 32) for _ in range(3)]
    with torch.no_grad():
        codes = encoders[0](hidden[2], MASK)
        equal = states_loss([torch.zeros(3, 5, 16), 3 * codes + 1], hidden, MASK, encoders, (1,))
        other = states_loss([torch.zeros(3, 5, 16), codes.flip(-1)], hidden, MASK, encoders, (1,))
        real = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]).bool()
        expected = (codes.flip(-1)[real] - codes[real]).square().mean()
    assert float(equal) == pytest.approx(0, abs=1e-4)  # scale and shift of a state are no difference
    assert float(other) == pytest.approx(float(expected), rel=1e-3)


def test_auto_encoders_learn_first_and_stay_as_they_are(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    run = toy_run(tmp_path, teacher, rows=256, settings={"max_steps": 60, "epochs": 10})
    compress(teacher, Config(encoder_epochs=10, encoder_learning_rate=1e-2), run)
    errors = [entry["reconstruction"] for entry in run.log if "reconstruction" in entry]
    assert errors[-1] < 0.7 * errors[0]
    assert {"soft", "task", "states"} <= run.log[-1].keys()
    states = [entry["states"] for entry in run.log if "states" in entry]
    assert states[-1] < states[0]


@pytest.mark.parametrize("settings", [{"encoder_epochs": 0}, {"states_weight": 0}])
def test_without_states_the_answers_teach_alone(settings: dict[str, float], tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    run = toy_run(tmp_path, teacher)
    compress(teacher, Config.model_validate(settings), run)
    assert set(run.log[-1]) >= {"soft", "task"}
    assert not any("states" in entry or "reconstruction" in entry for entry in run.log)


@pytest.mark.parametrize(("settings", "passes"), [({}, 8), ({"alpha": 0, "encoder_epochs": 0}, 0)])
def test_the_teacher_runs_once_for_each_batch_and_not_without_need(
    settings: dict[str, float], passes: int, tmp_path: Path
) -> None:
    teacher = toy_model(tmp_path)
    run = toy_run(tmp_path, teacher, settings={"max_steps": 4})
    seen: list[int] = []
    teacher.network.register_forward_hook(lambda *_: seen.append(1))
    compress(teacher, Config.model_validate(settings), run)
    assert len(seen) == passes  # four batches for the auto-encoders, four for the student


def test_layers_start_from_the_teachers(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path, layers=4)
    run = toy_run(tmp_path, teacher, settings={"max_steps": 1, "learning_rate": 1e-6})
    student = compress(teacher, Config(init="teacher", layers=2), run)
    assert any("from the teacher's 1, 3" in note for note in run.notes)
    for own, layer in zip(student.network.base_model.layers, (1, 3), strict=True):
        theirs = teacher.network.base_model.encoder.layer[layer].state_dict()
        for name, tensor in own.state_dict().items():
            torch.testing.assert_close(tensor, theirs[name], atol=1e-5, rtol=0)


def test_a_student_agrees_with_its_teacher(tmp_path: Path, learned: Model) -> None:
    run = toy_run(
        tmp_path, learned, rows=256, settings={"max_steps": 150, "epochs": 20, "learning_rate": 3e-3}
    )
    student = compress(learned, Config(), run)
    inputs = next(run.sample_batches(learned, 64, batch_size=64)).inputs
    agreed = (logits(student, inputs).argmax(-1) == logits(learned, inputs).argmax(-1)).float().mean()
    assert agreed > 0.85


def test_impossible_settings(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    for settings, problem in (
        ({"hidden": 15, "heads": 2}, "hidden: 15 is no multiple of 2 heads"),
        ({"kernel": 1}, "kernel: 1 is less than stride: 2"),
        ({"layers": 3}, "has 3 layers, its teacher 2"),
        ({"hidden": 64}, "hidden: 64 is more than the teacher's 32"),
    ):
        with pytest.raises(ConfigError, match=problem):
            compress(teacher, Config.model_validate(settings), toy_run(tmp_path, teacher))
    with pytest.raises(ConfigError, match="builds its student itself"):
        compress(teacher, Config(), toy_run(tmp_path, teacher, student=toy_model(tmp_path)))

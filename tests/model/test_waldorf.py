"""Networks on a shortened sequence: what shortening and lengthening keep, masks, padding, saving and export."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from compressbert.config.schema import ExportConfig, TaskKind
from compressbert.errors import ConfigError
from compressbert.export.write import export_onnx
from compressbert.model.architectures.waldorf import (
    Lengthen,
    Shorten,
    WaldorfConfig,
    short_mask,
)
from compressbert.model.checkpoint import load, save
from compressbert.model.count import facts
from compressbert.model.handle import Model
from compressbert.model.short_student import build_short, short_layers, start_as_copy, start_as_mean
from tests.methods.toy import toy_model
from tests.tiny import FAMILIES, padded_batch

KINDS: dict[TaskKind, str] = {
    "sequence-classification": "classification",
    "token-classification": "tokens",
    "question-answering": "answers",
}
SIZES = [(1, 1), (1, 3), (2, 2), (2, 3), (2, 4), (3, 3), (3, 5), (4, 7)]


def tiny(folder: Path, kind: TaskKind, family: str = "bert", **options: Any) -> Model:
    teacher = toy_model(folder, family, head=KINDS[kind])
    sizes: dict[str, Any] = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 32, "embedding_size": 8, "initializer_range": 0.2}
    student = build_short(teacher, WaldorfConfig(**sizes | options), kind=kind, seed=1)
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in student.network.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return student


def run(model: Model, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**inputs).logits
    return found


def test_the_mask_of_a_position_is_the_largest_of_its_window() -> None:
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 1, 1]])
    assert short_mask(mask, 2).tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 1, 1]]
    assert short_mask(mask, 1).tolist() == mask.tolist()
    assert short_mask(mask, 8).tolist() == [[1], [1], [1], [1]]


@pytest.mark.parametrize(("stride", "kernel"), SIZES)
@pytest.mark.parametrize("length", range(1, 9))
def test_every_length_is_restored(length: int, stride: int, kernel: int) -> None:
    states, mask = torch.randn(2, length, 3), torch.ones(2, length, dtype=torch.long)
    short = Shorten(3, 5, kernel=kernel, stride=stride)(states, mask)
    assert short.shape == (2, -(-length // stride), 5)
    reduced = short_mask(mask, stride)
    assert reduced.shape == short.shape[:2]
    assert Lengthen(5, 3, kernel=kernel, stride=stride)(short, reduced, length).shape == states.shape


@pytest.mark.parametrize(("stride", "kernel"), SIZES)
def test_what_is_lengthened_stands_where_it_was(stride: int, kernel: int) -> None:
    """Identity kernels: each word piece of a window has features of its own in the short state, and comes back."""
    shorten = Shorten(3, 3 * stride, kernel=kernel, stride=stride)
    lengthen = Lengthen(3 * stride, 3, kernel=kernel, stride=stride)
    with torch.no_grad():
        for conv in (shorten.conv, lengthen.conv):
            conv.weight.zero_()
            conv.bias.zero_()
        for place in range(stride):
            tap, features = shorten.before + place, slice(3 * place, 3 * place + 3)
            shorten.conv.weight[features, :, tap] = torch.eye(3)
            lengthen.conv.weight[features, :, tap] = torch.eye(3)
    states, mask = torch.randn(2, 7, 3), torch.ones(2, 7, dtype=torch.long)
    restored = lengthen(shorten(states, mask), short_mask(mask, stride), 7)
    torch.testing.assert_close(restored, states)


def test_stride_one_and_identity_kernels_make_a_plain_transformer(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path, head="answers")
    sizes = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    config = WaldorfConfig(embedding_size=32, stride=1, kernel=1, skip=False, **sizes)
    student = build_short(teacher, config, kind="question-answering", seed=0)
    own, plain = student.network.base_model, teacher.network.base_model
    with torch.no_grad():
        for conv in (own.shorten.conv, own.lengthen.conv):
            conv.weight.copy_(torch.eye(32).unsqueeze(-1))
            conv.bias.zero_()
    own.layers.load_state_dict(plain.encoder.layer.state_dict())
    own.embeddings.LayerNorm.load_state_dict(plain.embeddings.LayerNorm.state_dict())
    student.network.classifier.load_state_dict(teacher.network.qa_outputs.state_dict())
    batch = padded_batch()
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(run(student, batch)[real], run(teacher, batch)[real], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"hidden_act": "relu", "layer_norm_eps": 1e-2}])
@pytest.mark.parametrize("kind", KINDS)
def test_started_from_the_teacher_with_nothing_shortened_it_is_the_teacher(
    kind: TaskKind, options: dict[str, Any], tmp_path: Path
) -> None:
    teacher = toy_model(tmp_path, head=KINDS[kind], **options)
    sizes = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    config = WaldorfConfig(embedding_size=32, stride=1, kernel=3, skip=True, **sizes)
    student = build_short(teacher, config, kind=kind, seed=0, layers=(0, 1))
    batch = padded_batch()
    per_token = kind in ("token-classification", "question-answering")
    real = batch["attention_mask"].bool() if per_token else slice(None)
    torch.testing.assert_close(run(student, batch)[real], run(teacher, batch)[real], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("stride", "kernel"), SIZES)
def test_positions_start_as_means_that_every_word_piece_gets_back(stride: int, kernel: int) -> None:
    shorten = Shorten(3, 2, kernel=kernel, stride=stride)
    lengthen = Lengthen(2, 3, kernel=kernel, stride=stride)
    start_as_mean(shorten, stride)
    start_as_copy(lengthen, stride)
    states, mask = torch.randn(2, 2 * stride, 3), torch.ones(2, 2 * stride, dtype=torch.long)
    short = shorten(states, mask)
    means = states.unflatten(1, (2, stride)).mean(2)  # (2, 2 windows, 3)
    torch.testing.assert_close(short, means[..., :2])  # the leading features
    restored = lengthen(short, short_mask(mask, stride), 2 * stride)
    torch.testing.assert_close(restored[..., :2], short.repeat_interleave(stride, 1))
    assert not restored[..., 2].any()


def test_a_narrow_start_has_the_leading_features_of_the_layers_named(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path, head="answers")
    sizes = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
    config = WaldorfConfig(embedding_size=16, **sizes)
    student = build_short(teacher, config, kind="question-answering", seed=0, layers=(1,))
    own, theirs = short_layers(student)[0], teacher.network.base_model.encoder.layer[1]
    assert torch.equal(own.attention.self.query.weight, theirs.attention.self.query.weight[:16, :16])
    assert torch.equal(own.output.dense.weight, theirs.output.dense.weight[:16, :24])
    embeddings, table = student.network.base_model.embeddings, teacher.network.base_model.embeddings
    words = embeddings.word_projection(embeddings.word_embeddings.weight)
    torch.testing.assert_close(words, table.word_embeddings.weight[:, :16], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_start_from_a_teacher_of_any_family_that_has_such_layers(family: str, tmp_path: Path) -> None:
    teacher = toy_model(tmp_path, family, head="answers")
    first = teacher.family.layers(teacher.network)[0]
    config = WaldorfConfig(
        num_hidden_layers=1, hidden_size=first.hidden, num_attention_heads=first.heads,
        intermediate_size=first.ffn, embedding_size=8,
    )  # fmt: skip
    if family in ("mobilebert", "modernbert"):
        with pytest.raises(ConfigError, match="layers"):
            build_short(teacher, config, kind="question-answering", seed=0, layers=(0,))
        return
    student = build_short(teacher, config, kind="question-answering", seed=0, layers=(0,))
    own = short_layers(student)[0]
    assert torch.equal(own.get_submodule("intermediate.dense").weight, first.ffn_in.weight)


@pytest.mark.parametrize(("stride", "kernel"), SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing_on_real_tokens(
    kind: TaskKind, stride: int, kernel: int, tmp_path: Path
) -> None:
    model = tiny(tmp_path, kind, stride=stride, kernel=kernel)
    batch = padded_batch(lengths=(9, 5, 2))
    for row, length in enumerate((9, 5, 2)):
        alone = run(model, {name: tensor[row : row + 1, :length] for name, tensor in batch.items()})
        padded = run(model, batch)[row : row + 1]
        per_token = kind in ("token-classification", "question-answering")
        torch.testing.assert_close(padded[:, :length] if per_token else padded, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("stride", "kernel", "skip"), [(2, 4, True), (3, 3, False), (1, 1, True)])
@pytest.mark.parametrize("kind", KINDS)
def test_saved_loaded_and_exported(
    kind: TaskKind, stride: int, kernel: int, skip: bool, tmp_path: Path
) -> None:
    model = tiny(tmp_path, kind, stride=stride, kernel=kernel, skip=skip)
    save(model, tmp_path / "saved")
    assert torch.equal(run(load(tmp_path / "saved"), padded_batch()), run(model, padded_batch()))
    exported = export_onnx(model, tmp_path / "onnx", ExportConfig())
    assert exported.route == "direct"
    assert exported.parity["fp32"].max_abs_difference < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_come_from_a_teacher_of_any_family(family: str, tmp_path: Path) -> None:
    model = tiny(tmp_path, "question-answering", family)
    assert torch.isfinite(run(model, padded_batch(family))).all()
    assert export_onnx(model, tmp_path / "onnx", ExportConfig()).route == "direct"


def test_plain_transformers_opens_the_folder(tmp_path: Path) -> None:
    model = tiny(tmp_path, "question-answering")
    save(model, tmp_path / "saved")
    script = (
        "import sys, torch\n"
        "from transformers import AutoModelForQuestionAnswering\n"
        "model = AutoModelForQuestionAnswering.from_pretrained(sys.argv[1], trust_remote_code=True)\n"
        "ids = torch.tensor([[2, 7, 9, 8, 3]])\n"
        "print(model(input_ids=ids, attention_mask=torch.ones_like(ids)).start_logits.tolist())\n"
        "assert not any(name.startswith('compressbert') for name in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "saved")],
        check=True, capture_output=True, text=True, cwd=tmp_path, timeout=120,
    )  # fmt: skip
    ids = torch.tensor([[2, 7, 9, 8, 3]])
    own = run(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    found = torch.tensor([float(value) for value in done.stdout.strip("[]\n").split(",")])
    torch.testing.assert_close(found, own[0, :, 0])


def test_facts_count_every_product_of_the_short_sequence(tmp_path: Path) -> None:
    found = facts(tiny(tmp_path, "question-answering", stride=2, kernel=4))
    layer = 4 * 16 * 16 + 2 * 16 * 32 + 2 * 64 * 16  # of a position: 64 of them for 128 word pieces
    assert found.macs_per_token == 2 * layer // 2 + 2 * 4 * 16 * 16 // 2 + 16 * 16
    network = tiny(tmp_path, "question-answering").network
    assert found.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert (found.layers, found.heads_per_layer, found.ffn_per_layer, found.hidden) == (
        2,
        (2, 2),
        (32, 32),
        16,
    )
    parts = found.bytes_by_component
    assert parts["attention"] == 4 * 2 * (4 * (16 * 16 + 16) + 2 * 16)
    assert parts["ffn"] == 4 * 2 * (2 * 16 * 32 + 32 + 16 + 2 * 16)
    assert sum(parts.values()) == 4 * found.parameters

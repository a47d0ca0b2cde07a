"""MobileBERT networks: counts, bottlenecks, what they take over from another model, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import MobileBertConfig, MobileBertModel
from transformers.models.mobilebert.modeling_mobilebert import NoNorm

from compressbert.config.schema import ExportConfig
from compressbert.errors import ConfigError
from compressbert.export.write import export_onnx
from compressbert.methods.quantize import dynamic_int8
from compressbert.model import edits
from compressbert.model.checkpoint import load, save
from compressbert.model.count import facts, macs_per_token
from compressbert.model.handle import Model
from compressbert.model.mobilebert import (
    MobileShape,
    build_inverted,
    build_thin,
    calibrate_no_norm,
)
from compressbert.model.narrow_words import principal_basis
from compressbert.model.student import Shape, build_student
from tests.methods.toy import logits, toy_model, toy_run
from tests.tiny import WITH_VECTORS, padded_batch

THIN = MobileShape(layers=2, hidden=32, inner=8, heads=4, ffn=16, feed_forwards=3, embedding=8)
HEADS = ("classification", "tokens", "answers", "masked-lm", "none")


def thin(folder: Path, family: str = "bert", head: str = "classification", **options: int) -> Model:
    """A student whose tensors are all random, so that no mistake hides behind zeros and ones."""
    model = build_thin(toy_model(folder, family, head=head, **options), THIN, seed=1)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def test_the_published_shape_has_the_published_number_of_parameters(tmp_path: Path) -> None:
    """24.84 million with the pooler, as transformers counts them for its default config."""
    teacher = toy_model(tmp_path, head="none")
    with torch.device("meta"):
        stock = MobileBertModel(MobileBertConfig())
    assert sum(parameter.numel() for parameter in stock.parameters()) == 24_844_544
    shape = MobileShape(layers=24, hidden=512, inner=128, heads=4, ffn=512)
    vocabulary = teacher.network.config.vocab_size
    wide = toy_model(tmp_path, head="none", hidden=512, heads=8, ffn=8, layers=1)
    ours = build_thin(wide, shape, seed=0)
    missing = (30522 - vocabulary) * 128 + (512 - 64) * 512  # words and positions
    assert facts(ours).parameters == 24_844_544 - missing


def test_no_norm_with_scale_one_and_shift_zero_is_the_identity() -> None:
    states = torch.randn(2, 3, 8)
    assert torch.equal(NoNorm(8)(states), states)


def test_trigrams_at_the_edges_read_zeros(tmp_path: Path) -> None:
    model = thin(tmp_path)
    embeddings = model.family.embeddings(model.network)
    ids = torch.tensor([[7, 9]])
    seen: list[torch.Tensor] = []
    handle = embeddings.projection.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model(input_ids=ids, attention_mask=torch.ones_like(ids))
    handle.remove()
    first, second = embeddings.word.weight[7], embeddings.word.weight[9]
    nothing = torch.zeros(8)
    assert torch.equal(seen[0][0, 0], torch.cat([second, first, nothing]))
    assert torch.equal(seen[0][0, 1], torch.cat([nothing, second, first]))


def test_macs_are_those_of_every_matrix_of_a_layer(tmp_path: Path) -> None:
    bottlenecks = 2 * 32 * 8 + 8 * 32
    attention = 8 * 8 + 8 * 8 + 32 * 8 + 8 * 8
    feed_forward = 3 * 2 * 8 * 16
    assert macs_per_token(thin(tmp_path), 10) == 2 * (bottlenecks + attention + feed_forward + 2 * 10 * 8)


def test_words_are_the_best_narrow_factors_and_padding_is_zero(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    words = teacher.family.embeddings(teacher.network).word.weight.detach()
    full = build_thin(teacher, MobileShape(2, 32, 8, 4, 16, embedding=32), seed=0)
    own = full.family.embeddings(full.network)
    rebuilt = own.word.weight @ own.projection.weight[:, 32:64].t()
    torch.testing.assert_close(rebuilt[1:], words[1:])
    assert not own.word.weight[0].any()
    half = build_thin(teacher, MobileShape(2, 32, 8, 4, 16, embedding=8), seed=0)
    own = half.family.embeddings(half.network)
    error = (
        (own.word.weight.detach() @ own.projection.weight[:, 8:16].t().detach() - words)[1:].square().sum()
    )
    lost = torch.linalg.svdvals(words.double())[8:].square().sum()
    assert float(error) == pytest.approx(float(lost), rel=1e-4)


def test_a_basis_of_full_width_changes_nothing_and_a_narrow_one_is_orthonormal(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    assert torch.equal(principal_basis(teacher, 32), torch.eye(32))
    basis = principal_basis(teacher, 16)
    torch.testing.assert_close(basis.t() @ basis, torch.eye(16))
    with pytest.raises(ConfigError, match="more than the teacher's 32"):
        principal_basis(teacher, 33)


def test_calibrated_no_norm_gives_what_the_layer_norm_gave_on_average(tmp_path: Path) -> None:
    teacher = toy_model(tmp_path)
    student = build_thin(teacher, MobileShape(2, 32, 8, 4, 16, embedding=32), seed=0)
    before = [parameter.clone() for parameter in student.family.embeddings(student.network).norm.parameters()]
    calibrate_no_norm(student, [padded_batch()])
    after = student.family.embeddings(student.network).norm
    assert not torch.equal(before[1], after.weight)
    real = padded_batch()["attention_mask"].bool()
    own, theirs = (
        model.network.base_model.embeddings(padded_batch()["input_ids"], padded_batch()["token_type_ids"])[
            real
        ]
        for model in (student, teacher)
    )
    spreads = [float(states.detach().std(-1).mean()) for states in (own, theirs)]
    assert spreads[0] == pytest.approx(spreads[1], rel=0.1)


@pytest.mark.parametrize("family", WITH_VECTORS)
@pytest.mark.parametrize("head", HEADS)
def test_a_student_of_any_teacher_is_saved_loaded_and_exported(
    family: str, head: str, tmp_path: Path
) -> None:
    student = thin(tmp_path, family, head)
    save(student, tmp_path / "saved")
    again = load(tmp_path / "saved")
    batch = padded_batch(family)
    outputs = [model(**batch)[0] for model in (student, again)]
    assert torch.equal(*outputs)
    assert not (tmp_path / "saved" / "modeling_compressbert.py").exists()  # a stock network
    assert export_onnx(student, tmp_path / "onnx", ExportConfig()).route == "direct"


@pytest.mark.parametrize("head", HEADS)
def test_inverted_teachers_are_exported_too_and_both_as_int8(head: str, tmp_path: Path) -> None:
    wide = build_inverted(toy_model(tmp_path, head=head), hidden=16, heads=2, embedding=8, seed=0)
    assert export_onnx(wide, tmp_path / "onnx", ExportConfig()).route == "direct"
    for model in (wide, thin(tmp_path, head=head)):
        quantized = dynamic_int8.compress(model, dynamic_int8.Config(), toy_run(tmp_path, model))
        exported = export_onnx(quantized, tmp_path / "int8", ExportConfig())
        assert exported.parity["int8"].block_difference is not None
        save(quantized, tmp_path / "quantized")
        batch = padded_batch()
        assert torch.equal(load(tmp_path / "quantized")(**batch)[0], quantized(**batch)[0])


@pytest.mark.parametrize("shared", [True, False])
def test_maps_for_queries_and_keys_of_their_own_or_none(shared: bool, tmp_path: Path) -> None:
    model = thin(tmp_path)
    config = model.network.config
    config.key_query_shared_bottleneck = shared
    if not shared:
        config.intra_bottleneck_size = config.true_hidden_size = config.hidden_size
    torch.manual_seed(0)
    model.network = type(model.network)(config).eval()
    assert (model.family.layers(model.network)[0].bottleneck.shared is not None) == shared
    export_onnx(model, tmp_path / "onnx", ExportConfig())


def test_an_inverted_teacher_holds_the_plain_layers(tmp_path: Path) -> None:
    plain = toy_model(tmp_path)
    wide = build_inverted(plain, hidden=16, heads=4, embedding=16, seed=0)
    pairs = zip(wide.family.layers(wide.network), plain.family.layers(plain.network), strict=True)
    for own, theirs in pairs:
        assert torch.equal(own.query.weight, theirs.query.weight)
        assert torch.equal(own.ffn_out.weight, theirs.ffn_out.weight)
        assert own.bottleneck.attention_is_inside
        assert isinstance(own.ffn_norm, nn.LayerNorm)
    assert wide.width == 16


def test_heads_and_layers_can_be_removed_and_widths_cannot(tmp_path: Path) -> None:
    model = thin(tmp_path)
    edits.keep_heads(model, {0: [1, 2]})
    edits.keep_layers(model, [0])
    save(model, tmp_path / "saved")
    assert torch.equal(logits(load(tmp_path / "saved"), padded_batch()), logits(model, padded_batch()))
    export_onnx(model, tmp_path / "onnx", ExportConfig())
    with pytest.raises(ConfigError, match="bottlenecks already"):
        edits.keep_neurons(model, {0: [0]})
    with pytest.raises(ConfigError, match="bottlenecks already"):
        edits.keep_hidden(model, range(16))
    with pytest.raises(ConfigError, match="A student of another width cannot be made of a mobilebert"):
        build_student(model, Shape((0,), hidden=16), init="random")
    assert (
        len(build_student(thin(tmp_path), Shape((1,)), init="teacher").network.base_model.encoder.layer) == 1
    )


def test_a_head_is_taken_over_where_it_computes_the_same(tmp_path: Path) -> None:
    for family, name in (("bert", "pooler.dense"), ("roberta", "classifier.dense")):
        teacher = toy_model(tmp_path, family)
        student = build_thin(teacher, THIN, seed=0)
        modules = teacher.family.head_modules(teacher.network)
        theirs = next(module for key, module in modules.items() if key.endswith(name))
        assert torch.equal(student.network.base_model.pooler.dense.weight, theirs.weight)
    teacher = toy_model(tmp_path, "electra")  # its activation is another one
    student = build_thin(teacher, THIN, seed=0)
    assert not torch.equal(student.network.classifier.weight, teacher.network.classifier.out_proj.weight)

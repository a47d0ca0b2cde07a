"""OpenVINO export: refusals without the extra; with it, parity, int8, what the runner and the sizes make of an IR."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from compressbert import save
from compressbert.api import export
from compressbert.config.schema import DataConfig, ExportConfig, ExportStepConfig
from compressbert.errors import ConfigError, InputError
from compressbert.export.write import export_onnx
from compressbert.measure.runners import OpenVINORunner, open_runner, openvino_file
from compressbert.measure.size import openvino_facts
from compressbert.model.edits import quantize_int8
from compressbert.model.pooling import Pooling
from tests.export.stand import run_network, tiny_model, uneven_model
from tests.model.text_vectors import tiny_text_vectors
from tests.tiny import WITH_VECTORS, padded_batch, save_tiny, toy_rows, write_rows

INSTALLED = importlib.util.find_spec("openvino") is not None and importlib.util.find_spec("nncf") is not None
with_openvino = pytest.mark.skipif(not INSTALLED, reason="the extra openvino is not installed")
# Tracing is deprecated in torch, and NNCF's own imports warn.
quietly = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")


def settings(precision: str = "fp32", **options: object) -> ExportConfig:
    return ExportConfig(format="openvino", precision=precision, **options)


def without_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    hidden = ("openvino", "nncf")
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name in hidden else real(name, *rest)
    )


def test_without_the_extra_nothing_is_done_and_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_extra(monkeypatch)
    config = ExportStepConfig(
        model={"path": str(save_tiny(tmp_path / "model"))},
        export=settings("int8"),
        output=str(tmp_path / "out"),
    )
    with pytest.raises(InputError, match="needs openvino and nncf") as failure:
        export(config)
    assert failure.value.hint == "pip install 'compressbert[openvino]'"
    assert not (tmp_path / "out").exists()


def test_a_runner_without_the_extra_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "openvino_model.xml").write_text("<net/>")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(InputError, match="needs OpenVINO") as failure:
        open_runner(tmp_path)
    assert failure.value.hint == "pip install 'compressbert[openvino]'"


def test_the_int8_file_is_preferred_and_a_model_folder_stays_one(tmp_path: Path) -> None:
    assert openvino_file(tmp_path) is None
    (tmp_path / "openvino_model.xml").touch()
    assert openvino_file(tmp_path) == tmp_path / "openvino_model.xml"
    (tmp_path / "openvino_model_quantized.xml").touch()
    assert openvino_file(tmp_path) == tmp_path / "openvino_model_quantized.xml"
    save_tiny(tmp_path)
    runner = open_runner(tmp_path)
    assert runner.runtime == "pytorch"
    runner.close()


def test_size_of_an_ir_is_told_by_component(tmp_path: Path) -> None:
    constant = '<layer id="{}" name="Constant_{}" type="Const"><data offset="{}" size="{}"/></layer>'
    named = '<layer id="{}" name="{}" type="Gather"/>'
    layers = [
        constant.format(0, 0, 0, 40), constant.format(1, 1, 40, 8), constant.format(2, 2, 40, 8),
        named.format(3, "Convert_7"), named.format(4, "__module.network.bert.embeddings.word_embeddings/x/Gather"),
        named.format(5, "__module.network.bert.encoder.layer.1.attention.query/aten::linear/MatMul"),
    ]  # fmt: skip
    edges = "".join(f'<edge from-layer="{a}" to-layer="{b}"/>' for a, b in ((0, 3), (3, 4), (1, 5), (2, 4)))
    file = tmp_path / "m.xml"
    file.write_text(f"<net><layers>{''.join(layers)}</layers><edges>{edges}</edges></net>")
    file.with_suffix(".bin").write_bytes(bytes(48))
    found = openvino_facts(file)
    assert found.bytes_on_disk == 48 + file.stat().st_size
    assert found.bytes_by_component == {
        "embeddings": 40, "attention": 8, "ffn": 0, "head": 0, "rest": file.stat().st_size,
    }  # fmt: skip
    file.write_text("<net>")
    with pytest.raises(InputError, match="not a readable IR"):
        openvino_facts(file)


def test_an_int8_model_is_refused_with_the_way_out() -> None:
    from compressbert.export.openvino import refuse

    model = tiny_model("bert")
    quantize_int8(model)
    with pytest.raises(ConfigError, match="holds int8 weights") as failure:
        refuse(model)
    assert "before quantization" in failure.value.hint


def test_an_lstm_is_refused_with_the_way_out() -> None:
    from compressbert.export.openvino import refuse

    with pytest.raises(ConfigError, match="LSTM") as failure:
        refuse(tiny_text_vectors("bilstm"))
    assert "format: onnx" in failure.value.hint


def test_windows_are_refused_with_the_way_out() -> None:
    from compressbert.export.openvino import refuse

    with pytest.raises(ConfigError, match="modernbert attend within windows") as failure:
        refuse(tiny_model("modernbert"))
    assert "format: onnx" in failure.value.hint


@with_openvino
@quietly
@pytest.mark.parametrize("family", WITH_VECTORS)
def test_fp32_gives_the_models_answers_on_padded_batches(family: str, tmp_path: Path) -> None:
    from compressbert.export.openvino import export_openvino

    model = uneven_model(family)
    facts = export_openvino(model, tmp_path / "out", settings())
    assert facts.parity["fp32"].max_abs_difference < 1e-4
    runner = open_runner(tmp_path / "out")
    assert isinstance(runner, OpenVINORunner)
    for lengths in ((9, 5, 2), (1,), (30, 3)):
        batch = padded_batch(family, lengths=lengths)
        ours = runner.predict({name: values.numpy() for name, values in batch.items()})
        np.testing.assert_allclose(ours, run_network(model, batch), atol=1e-4)
    heads = [3, 3, 3] if family == "albert" else [2, 3, 4]
    assert [layer.heads for layer in model.family.layers(model.network)] == heads  # left as it was
    assert all(parameter.requires_grad for parameter in model.network.parameters())


@with_openvino
@quietly
def test_the_last_layer_is_cut_unless_optimize_is_off(tmp_path: Path) -> None:
    from compressbert.export.openvino import export_openvino

    model = tiny_model("bert")
    answers = []
    for name, optimize in (("cut", True), ("whole", False)):
        export_openvino(model, tmp_path / name, settings(optimize=optimize))
        text = (tmp_path / name / "openvino_model.xml").read_text()
        assert ("layer.1.intermediate/aten::linear" in text) is optimize
        inputs = {key: values.numpy() for key, values in padded_batch("bert").items()}
        answers.append(open_runner(tmp_path / name).predict(inputs))
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-5)


@with_openvino
@quietly
@pytest.mark.parametrize("kind", ["tokens", "answers", "masked-lm", "none", "embedding"])
def test_every_kind_of_head_has_the_outputs_of_its_onnx_file(kind: str, tmp_path: Path) -> None:
    from compressbert.export.openvino import export_openvino

    model = tiny_model("bert", head="none" if kind == "embedding" else kind)
    if kind == "embedding":
        model.pooling = Pooling("mean", normalize=True)
    export_openvino(model, tmp_path / "ir", settings())
    export_onnx(model, tmp_path / "onnx", ExportConfig())
    inputs = {name: values.numpy() for name, values in padded_batch("bert").items()}
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "onnx" / "model.onnx")
    expected = dict(
        zip([node.name for node in session.get_outputs()], session.run(None, inputs), strict=True)
    )
    exact = {"INFERENCE_PRECISION_HINT": "f32"}  # a CPU may have bf16, which is the default there
    file = tmp_path / "ir" / "openvino_model.xml"
    compiled = importlib.import_module("openvino").compile_model(file, "CPU", exact)
    found = {port.get_any_name(): value for port, value in compiled(inputs).items()}
    assert list(found) == list(expected)
    real = inputs["attention_mask"] == 1
    for name, values in expected.items():
        where = real if values.shape[:2] == real.shape else slice(None)
        np.testing.assert_allclose(found[name][where], values[where], atol=1e-4)
    ours, theirs = (
        open_runner(tmp_path / "ir").predict(inputs),
        open_runner(tmp_path / "onnx").predict(inputs),
    )
    assert ours.shape == theirs.shape


@with_openvino
@quietly
def test_the_command_calibrates_scores_and_records(tmp_path: Path) -> None:
    data = {
        "train": str(write_rows(tmp_path / "train.jsonl", toy_rows(60))),
        "validation": str(write_rows(tmp_path / "validation.jsonl", toy_rows(20, seed=1))),
    }
    config = ExportStepConfig(
        model={"path": str(save_tiny(tmp_path / "model"))},
        export=settings("both", calibration=24),
        data=DataConfig(**data),
        output=str(tmp_path / "out"),
    )
    result = export(config)
    assert result.quality["accuracy"].examples == 20
    assert result.model is not None
    out = tmp_path / "out"
    size = sum((out / f"openvino_model_quantized{end}").stat().st_size for end in (".xml", ".bin"))
    assert result.model.bytes_on_disk == size
    assert json.loads((out / "config.json").read_text())["id2label"]["1"] == "positive"
    assert (
        'labels value="[&quot;negative&quot;,&quot;positive&quot;]"'
        in (out / "openvino_model.xml").read_text()
    )
    batch = padded_batch("bert")
    inputs = {name: values.numpy() for name, values in batch.items()}
    int8 = open_runner(out).predict(inputs)
    fp32 = open_runner(out / "openvino_model.xml").predict(inputs)
    assert 0 < np.abs(int8 - fp32).max() < 0.5 * np.abs(fp32).max()


@with_openvino
@quietly
def test_int8_without_training_data_is_a_config_error(tmp_path: Path) -> None:
    config = ExportStepConfig(
        model={"path": str(save_tiny(tmp_path / "model"))},
        export=settings("int8"),
        output=str(tmp_path / "out"),
    )
    with pytest.raises(ConfigError, match="from training data") as failure:
        export(config)
    assert "--data" in failure.value.hint


@with_openvino
@quietly
def test_a_damaged_ir_is_an_input_error(tmp_path: Path) -> None:
    from compressbert.export.openvino import export_openvino

    export_openvino(tiny_model("bert"), tmp_path / "out", settings())
    file = tmp_path / "out" / "openvino_model.xml"
    file.write_text(file.read_text()[:500])
    with pytest.raises(InputError, match=r"cannot open .*openvino_model\.xml"):
        open_runner(tmp_path / "out")


@with_openvino
@quietly
def test_a_saved_model_with_uneven_heads_is_exported(tmp_path: Path) -> None:
    from compressbert import load
    from compressbert.export.openvino import export_openvino

    save(uneven_model("distilbert"), tmp_path / "model")
    export_openvino(load(tmp_path / "model"), tmp_path / "out", settings())
    batch = padded_batch("distilbert")
    ours = open_runner(tmp_path / "out").predict({name: values.numpy() for name, values in batch.items()})
    np.testing.assert_allclose(ours, run_network(uneven_model("distilbert"), batch), atol=1e-4)
    assert torch.is_grad_enabled()

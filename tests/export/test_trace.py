"""Other architectures go through PyTorch's exporter, with a message and the same check."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import (
    BertForNextSentencePrediction,
    MegatronBertConfig,
    MegatronBertForSequenceClassification,
)

from compressbert import progress
from compressbert.config.schema import ExportConfig
from compressbert.errors import ConfigError, InputError
from compressbert.export.foreign import load_for_export
from compressbert.export.heads import refusal
from compressbert.export.write import export_onnx
from compressbert.model.handle import Model
from tests.export.stand import run_file, run_network
from tests.tiny import padded_batch, save_tiny, tiny_network, tiny_tokenizer


class Notes(progress.Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def megatron() -> Model:
    torch.manual_seed(0)
    config = MegatronBertConfig(
        vocab_size=35, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64, initializer_range=0.2, num_labels=2,
    )  # fmt: skip
    network = MegatronBertForSequenceClassification(config).eval()
    return Model(network, tiny_tokenizer("bert"), config.to_dict())


def test_an_unknown_family_is_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    notes = Notes()
    monkeypatch.setattr(progress, "_listener", notes)
    model = megatron()
    facts = export_onnx(model, tmp_path / "out", ExportConfig())
    assert facts.route == "trace"
    assert "megatron-bert" in facts.notes[0]
    assert notes.said == list(facts.notes)
    assert capfd.readouterr() == ("", "")
    batch = padded_batch("bert", lengths=(11, 6, 3, 2))
    assert np.abs(run_file(facts.files["fp32"], batch) - run_network(model, batch)).max() < 1e-5
    proto = onnx.load(str(facts.files["fp32"]))
    assert {"labels", "lineage"} <= {entry.key for entry in proto.metadata_props}
    assert sorted(path.name for path in (tmp_path / "out/onnx").iterdir()) == ["model.onnx"]


def test_any_architecture_is_loaded_for_export(tmp_path: Path) -> None:
    model = megatron()
    model.network.save_pretrained(tmp_path / "megatron")
    model.tokenizer.save_pretrained(tmp_path / "megatron")
    loaded = load_for_export(tmp_path / "megatron")
    batch = padded_batch("bert")
    assert np.array_equal(run_network(loaded, batch), run_network(model, batch))
    assert (
        type(load_for_export(save_tiny(tmp_path / "bert")).network).__name__
        == "BertForSequenceClassification"
    )


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    model = megatron()
    model.network.config.save_pretrained(tmp_path / "megatron")
    with pytest.raises(InputError, match="safetensors"):
        load_for_export(tmp_path / "megatron")


def test_int8_of_a_traced_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="written directly"):
        export_onnx(megatron(), tmp_path / "out", ExportConfig(precision="int8"))
    assert not (tmp_path / "out").exists()


def test_another_head_of_a_known_family_is_not_written_directly() -> None:
    network = BertForNextSentencePrediction(tiny_network("bert").config).eval()
    model = Model(network, tiny_tokenizer("bert"), network.config.to_dict())
    assert "BertForNextSentencePrediction" in refusal(model)

"""Networks that make one vector of a text, as ONNX: equal to PyTorch on padded batches of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from compressbert.config.schema import ExportConfig
from compressbert.errors import ConfigError
from compressbert.export.write import export_onnx
from compressbert.model.handle import Model
from compressbert.model.pooling import Pooling
from tests.model.text_vectors import KINDS, tiny_text_vectors

every_kind = pytest.mark.parametrize("kind", KINDS)


def run(file: Path, ids: list[list[int]], mask: list[list[int]]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(None, {"input_ids": np.array(ids), "attention_mask": np.array(mask)})


def exported(model: Model, folder: Path) -> Path:
    facts = export_onnx(model, folder, ExportConfig())
    assert facts.route == "direct"
    return facts.files["fp32"]


@every_kind
@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("head_size", [0, 4])
def test_it_gives_equal_logits(kind: str, pairs: bool, head_size: int, tmp_path: Path) -> None:
    options = {"frozen_size": 3} if kind == "bilstm" and head_size else {}
    model = tiny_text_vectors(kind, pairs=pairs, head_size=head_size, **options)
    sep = model.tokenizer.sep_token_id
    ids = [
        [2, 5, sep, 6, 7, sep],
        [2, 5, sep, 6, sep, 0],
        [2, 9, 9, 9, sep, 0],
        [0, 0, 2, 5, sep, 6],
        [7, 0, 0, 0, 0, 0],
    ]
    mask = [[1] * 6, [1] * 5 + [0], [1] * 5 + [0], [0, 0] + [1] * 4, [1] + [0] * 5]
    (found,) = run(exported(model, tmp_path), ids, mask)
    with torch.no_grad():
        expected = model(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask)).logits
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


@every_kind
def test_what_lies_in_the_padding_does_not_matter(kind: str, tmp_path: Path) -> None:
    file = exported(tiny_text_vectors(kind), tmp_path)
    mask = [[1, 1, 0, 0], [1] * 4]
    (one,), (other,) = (run(file, [[5, 6, *rest], [7] * 4], mask) for rest in ([0, 0], [9, 11]))
    (alone,) = run(file, [[5, 6]], [[1, 1]])
    np.testing.assert_array_equal(one[:1], other[:1])
    np.testing.assert_allclose(one[:1], alone, atol=1e-6)


def test_a_sentence_encoder_pools_and_normalises(tmp_path: Path) -> None:
    model = tiny_text_vectors("static", task="sentence-embedding")
    model.pooling = Pooling("mean", normalize=True)
    vectors, rows = run(exported(model, tmp_path), [[5, 6, 0]], [[1, 1, 0]])
    table = model.network.embeddings.word_embeddings.weight.detach().numpy()
    mean = (table[5] + table[6]) / 2
    np.testing.assert_allclose(vectors[0], mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_array_equal(rows[0, :2], table[[5, 6]])


@every_kind
def test_the_file_says_what_it_holds(kind: str, tmp_path: Path) -> None:
    model = tiny_text_vectors(kind)
    proto = onnx.load(exported(model, tmp_path))
    facts = {entry.key: entry.value for entry in proto.metadata_props}
    assert facts["model_type"] == model.network.config.model_type
    assert "layers" not in facts
    assert [given.name for given in proto.graph.input] == ["input_ids", "attention_mask"]


@every_kind
def test_number_formats_that_are_not_written_are_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="precision: int4") as raised:
        export_onnx(tiny_text_vectors(kind), tmp_path, ExportConfig(precision="int4"))
    assert "fp32" in raised.value.hint

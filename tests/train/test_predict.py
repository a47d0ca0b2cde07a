"""Predictions come in row order, from evaluation mode, and leave the model as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from compressbert.data.batches import ordered_batches
from compressbert.errors import ConfigError, InputError
from compressbert.train.predict import collect, predict, score
from tests.train.support import tiny_model, toy


def test_row_order_and_values_equal_one_row_at_a_time(tmp_path: Path) -> None:
    _, encoded = toy(tmp_path, rows=23)
    model = tiny_model()
    logits = predict(model, encoded, batch_size=4)
    assert logits.shape == (23, 2)
    assert logits.dtype == np.float32
    for row in range(23):
        ids = torch.from_numpy(encoded.ids[encoded.offsets[row] : encoded.offsets[row + 1]].astype(np.int64))[
            None
        ]
        alone = model(
            input_ids=ids, attention_mask=torch.ones_like(ids), token_type_ids=torch.zeros_like(ids)
        )
        np.testing.assert_allclose(logits[row], alone.logits[0].detach().numpy(), atol=1e-5)


def test_training_mode_does_not_leak_in_and_is_put_back(tmp_path: Path) -> None:
    _, encoded = toy(tmp_path, rows=9)
    model = tiny_model()
    expected = predict(model, encoded)
    model.train()
    model.network.bert.embeddings.eval()  # modes are put back module by module
    assert np.array_equal(predict(model, encoded), expected)
    assert model.network.classifier.training
    assert not model.network.bert.embeddings.training


def test_score_is_the_primary_metric(tmp_path: Path) -> None:
    task, encoded = toy(tmp_path, rows=31)
    model = tiny_model()
    right = predict(model, encoded).argmax(axis=1) == encoded.labels
    assert score(model, encoded, task) == right.mean()


def test_masked_lm_sums_equal_a_hand_count(tmp_path: Path) -> None:
    task, encoded = toy(tmp_path, rows=40, kind="masked-lm")
    model = tiny_model(head="masked-lm")
    found = collect(model, encoded, task, batch_size=7).scores
    expected, nll = np.zeros((40, 2)), np.zeros(40)
    for batch in ordered_batches(encoded, batch_size=1, pad_id=0):
        logits = model(**batch.inputs).logits[0].detach()
        row = int(batch.examples[0])
        for position, label in enumerate(batch.labels[0].tolist()):
            if label != -100:
                expected[row] += [int(logits[position].argmax()) == label, 1]
                nll[row] -= torch.log_softmax(logits[position].double(), 0)[label].item()
    assert expected[:, 1].sum() > 20
    np.testing.assert_array_equal(found[:, [0, 2]], expected)
    np.testing.assert_allclose(found[:, 1], nll, rtol=1e-4)
    assert score(model, encoded, task) == expected[:, 0].sum() / expected[:, 1].sum()


def test_no_rows_and_masked_rows_are_refused(tmp_path: Path) -> None:
    _, encoded = toy(tmp_path, rows=5)
    with pytest.raises(InputError, match="expected rows"):
        predict(tiny_model(), encoded.subset([]))
    _, masked = toy(tmp_path, rows=5, kind="masked-lm")
    with pytest.raises(ConfigError, match="masked-lm"):
        predict(tiny_model(), masked)

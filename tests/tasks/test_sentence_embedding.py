"""Pairs of texts: vectors side by side, cosine against scores, pooling as folders say it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from compressbert.config.schema import DataConfig
from compressbert.data.batches import ordered_batches, training_batches
from compressbert.data.encode import Encoded, encode
from compressbert.data.read import read_split
from compressbert.errors import InputError
from compressbert.model import pooling
from compressbert.model.checkpoint import load, save
from compressbert.model.pooling import Pooling
from compressbert.tasks.base import Task, task_for
from compressbert.train.predict import collect, predict
from tests.tiny import padded_batch, save_tiny, scored_pairs, tiny_tokenizer, write_rows

BOTH = Pooling("mean", normalize=True)


def toy(folder: Path, rows: int = 12) -> tuple[Task, Encoded]:
    file = write_rows(folder / "pairs.jsonl", scored_pairs(rows))
    config = DataConfig(task="sentence-embedding", train=str(file))
    task = task_for(config, ())
    return task, encode(read_split(config, "train"), tiny_tokenizer(), task=task, max_length=32)


def test_pooling_by_hand() -> None:
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert Pooling("mean", normalize=False)(hidden, mask).tolist() == [[2, 4]]
    assert Pooling("cls", normalize=False)(hidden, mask).tolist() == [[1, 2]]
    torch.testing.assert_close(BOTH(hidden, mask), torch.tensor([[2.0, 4.0]]) / 20**0.5)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("mode", ["mean", "cls"])
def test_pooling_survives_a_folder(mode: str, normalize: bool, tmp_path: Path) -> None:
    wanted = Pooling(mode, normalize)  # type: ignore[arg-type]
    pooling.write(wanted, tmp_path, width=8)
    assert pooling.read(tmp_path) == wanted
    assert pooling.read(tmp_path / "1_Pooling") is None


def test_unknown_ways_of_pooling_are_refused(tmp_path: Path) -> None:
    pooling.write(BOTH, tmp_path, width=8)
    config = tmp_path / "1_Pooling" / "config.json"
    config.write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(InputError, match="pools by max_tokens"):
        pooling.read(tmp_path)
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules[2]["type"] = "sentence_transformers.models.Dense"
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InputError, match="lists Transformer, Pooling, Dense"):
        pooling.read(tmp_path)


def test_a_folder_that_does_not_say_needs_the_setting(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", head="none")
    task = task_for(DataConfig(task="sentence-embedding"), ())
    with pytest.raises(InputError, match="does not say how its tokens are pooled") as raised:
        load(folder, task=task.spec())
    assert "data.embedding.pooling" in raised.value.hint
    settings = {"task": "sentence-embedding", "embedding": {"pooling": "cls", "normalize": False}}
    model = load(folder, task=task_for(DataConfig.model_validate(settings), ()).spec())
    assert model.pooling == Pooling("cls", normalize=False)
    save(model, tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert again.pooling == model.pooling
    batch = padded_batch()
    assert torch.equal(again(**batch).logits, model.network(**batch).last_hidden_state[:, 0])
    assert load(tmp_path / "saved", task=task.spec()).pooling == model.pooling


def test_pairs_keep_together_in_batches_samples_and_epochs(tmp_path: Path) -> None:
    _, encoded = toy(tmp_path)
    assert (len(encoded), encoded.sequences, encoded.group) == (12, 24, 2)
    batches = [*training_batches(encoded, batch_size=5, seed=1, epoch=0, pad_id=0)]
    batches += [*ordered_batches(encoded, batch_size=5, pad_id=0)]
    for batch in batches:
        first, second = batch.examples.chunk(2)
        assert torch.equal(first + 1, second)
        assert (first % 2 == 0).all()
        assert batch.labels is not None
        assert batch.labels.tolist() == encoded.labels[first.numpy() // 2].tolist()
        lengths = batch.inputs["attention_mask"].sum(1).tolist()
        assert lengths == encoded.lengths[batch.examples.numpy()].tolist()
    part = encoded.subset([7, 2])
    assert part.lengths.tolist() == encoded.lengths[[14, 15, 4, 5]].tolist()
    assert part.labels is not None
    assert part.labels.tolist() == encoded.labels[[7, 2]].tolist()
    assert encoded.row_lengths.tolist() == encoded.lengths.reshape(-1, 2).max(1).tolist()


def test_scores_are_cosines_of_the_two_vectors(tmp_path: Path) -> None:
    task, encoded = toy(tmp_path)
    model = load(save_tiny(tmp_path / "model", head="none"))
    model.pooling = Pooling("mean", normalize=False)
    vectors = predict(model, encoded)
    assert vectors.shape == (24, 32)
    found = collect(model, encoded, task)
    expected = [
        np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)
        for a, b in zip(vectors[::2], vectors[1::2], strict=True)
    ]
    np.testing.assert_allclose(found.scores[:, 0], expected, rtol=1e-5)
    assert np.array_equal(found.labels, encoded.labels)


def test_the_loss_is_the_error_of_the_cosine_on_the_scale() -> None:
    task = task_for(DataConfig.model_validate({"task": "sentence-embedding", "embedding": {"scale": 5}}), ())
    vectors = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [4.0, 0.0]])  # cosines 1 and 0
    assert task.loss(vectors, torch.tensor([5.0, 2.5])).item() == pytest.approx(0.125)
    with pytest.raises(InputError, match="score 6, but the highest is 5"):
        task.loss(vectors, torch.tensor([6.0, 2.0]))


def test_single_texts_cannot_be_scored(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("the film\nthe plot\n")
    config = DataConfig(task="sentence-embedding", train=str(tmp_path / "texts.txt"))
    task = task_for(config, ())
    encoded = encode(read_split(config, "train"), tiny_tokenizer(), task=task, max_length=16)
    assert (len(encoded), encoded.group, encoded.labels) == (2, 1, None)
    with pytest.raises(InputError, match="single texts"):
        task.collector(encoded)

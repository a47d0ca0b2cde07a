"""Tokenizing into flat arrays: equality with the tokenizer, the cache, and memory."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from compressbert.config.schema import DataConfig
from compressbert.data.array_store import open_arrays, store_arrays
from compressbert.data.encode import Encoded, encode
from compressbert.data.files import cache_folder
from compressbert.data.read import Split, read_split
from compressbert.errors import ConfigError, InputError, WorkError
from compressbert.tasks.base import task_for
from tests.data.listening import hearing
from tests.tiny import tiny_tokenizer, toy_rows, write_rows


def split_of(rows: list[dict[str, Any]], names: tuple[str, ...] = ("0", "1")) -> Split:
    return Split(Dataset.from_list(rows), names, {})


def encoded(
    rows: list[dict[str, Any]],
    family: str = "bert",
    max_length: int = 64,
    kind: str = "sequence-classification",
) -> Encoded:
    task = task_for(DataConfig(task=kind), ("0", "1"))  # type: ignore[arg-type]
    return encode(split_of(rows), tiny_tokenizer(family), task=task, max_length=max_length)


def texts(count: int, pair: bool = False) -> list[dict[str, Any]]:
    rows = toy_rows(count, pairs=pair)
    names = {"sentence": "text", "sentence1": "text", "sentence2": "text_pair"}
    return [{names.get(key, key): value for key, value in row.items()} for row in rows]


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("max_length", [64, 7])
def test_equal_to_the_tokenizer_itself(family: str, pair: bool, max_length: int) -> None:
    rows = texts(50, pair)
    found = encoded(rows, family, max_length)
    other = [row["text_pair"] for row in rows] if pair else None
    expected = tiny_tokenizer(family)(
        [row["text"] for row in rows], other, truncation=True, max_length=max_length
    )
    assert len(found) == 50
    for i in range(50):
        part = slice(found.offsets[i], found.offsets[i + 1])
        assert found.ids[part].tolist() == expected["input_ids"][i]
        if family == "bert":
            assert found.types is not None
            assert found.types[part].tolist() == expected["token_type_ids"][i]
    assert (found.types is None) == (family != "bert")
    assert found.labels is not None
    assert found.labels.tolist() == [row["label"] for row in rows]
    assert (found.ids.dtype, found.offsets.dtype) == (np.int32, np.int64)


def test_cut_rows_are_counted_and_said_also_from_the_cache() -> None:
    rows = [
        {"text": "good film", "label": 1},
        {"text": "bad " * 30, "label": 0},
        {"text": "the " * 6, "label": 0},
    ]
    for _ in range(2):
        with hearing() as heard:
            found = encoded(rows, max_length=8)  # 6 words and 2 special tokens fit exactly
        assert found.truncated == 1
        assert heard.notes == ["1 of 3 rows cut at 8 word pieces"]
        assert found.lengths.tolist() == [4, 8, 8]


def test_the_tokenizers_own_limit_applies() -> None:
    found = encoded([{"text": "bad " * 100, "label": 0}], max_length=500)
    assert (found.lengths.tolist(), found.max_length, found.truncated) == ([64], 64, 1)


def test_no_room_for_text_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="more than the 2 special tokens"):
        encoded(texts(2), max_length=2)
    with pytest.raises(ConfigError, match="more than the 3 special tokens"):
        encoded(texts(2, pair=True), max_length=3)


def test_a_slow_tokenizer_is_refused() -> None:
    task = task_for(DataConfig(), ("0", "1"))
    with pytest.raises(InputError, match="fast tokenizer"):
        encode(split_of(texts(2)), object(), task=task, max_length=8)


def test_labels_of_each_kind(tmp_path: Path) -> None:
    def labels(kind: str, values: list[Any]) -> Any:
        path = write_rows(tmp_path / f"{kind}.jsonl", [{"text": "x", "label": value} for value in values])
        config = DataConfig(task=kind, train=str(path))  # type: ignore[arg-type]
        split = read_split(config, "train")
        found = encode(split, tiny_tokenizer(), task=task_for(config, split.label_names), max_length=16)
        return found.labels

    single = labels("sequence-classification", ["b", "a"])
    number = labels("regression", [0.5, 4])
    several = labels("multi-label", [["a"], ["b", "a"]])
    assert (single.dtype, single.tolist()) == (np.int64, [1, 0])
    assert (number.dtype, number.tolist()) == (np.float32, [0.5, 4.0])
    assert (several.dtype, several.tolist()) == (np.float32, [[1, 0], [1, 1]])


def folders() -> list[Path]:
    return sorted((cache_folder() / "tokenized").iterdir())


def test_the_cache_is_used_and_keyed_by_what_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    first = encoded(texts(20))
    assert isinstance(first.ids, np.memmap)
    monkeypatch.setattr("compressbert.data.encode._build", None)  # a second tokenizing would fail
    assert encoded(texts(20)).key == first.key
    monkeypatch.undo()
    os.environ["COMPRESSBERT_CACHE"] = str(cache_folder())
    keys = {first.key, encoded(texts(20), max_length=6).key, encoded(texts(21)).key}
    keys |= {encoded(texts(20), "roberta").key, encoded(texts(20), kind="masked-lm").key}
    assert len(keys) == 5


@pytest.mark.parametrize("damage", ["truncate", "flip", "manifest", "missing", "nonsense"])
def test_a_damaged_entry_is_made_anew(damage: str) -> None:
    rows = texts(30)
    before = np.array(encoded(rows).ids)
    (folder,) = folders()
    file = folder / "ids.bin"
    if damage == "truncate":
        file.write_bytes(file.read_bytes()[:-4])
    elif damage == "flip":
        raw = bytearray(file.read_bytes())
        raw[10] ^= 1
        file.unlink()  # a new file: the old one may still be mapped
        file.write_bytes(bytes(raw))
    elif damage == "manifest":
        (folder / "manifest.json").write_text('{"arrays": {')
    elif damage == "nonsense":
        (folder / "manifest.json").write_text("[3]")
    else:
        file.unlink()
    assert open_arrays(folder) is None
    assert np.array_equal(encoded(rows).ids, before)
    assert folders() == [folder]


def test_a_failure_midway_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("compressbert.data.encode._append", fail)
    with pytest.raises(KeyboardInterrupt):
        encoded(texts(5))
    assert folders() == []


def test_a_full_disk_is_a_work_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("compressbert.data.array_store.ArrayWriter.append", full)
    with pytest.raises(WorkError, match="no space left"):
        encoded(texts(5))
    assert folders() == []


def test_two_writers_of_one_entry(tmp_path: Path) -> None:
    with store_arrays(tmp_path / "x") as slow:
        slow.append("a", np.arange(3))
        with store_arrays(tmp_path / "x") as fast:
            fast.append("a", np.arange(3))
    stored = open_arrays(tmp_path / "x")
    assert stored is not None
    assert stored[0]["a"].tolist() == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("x")] == ["x"]


def test_subset_copies_rows_in_the_order_asked_for() -> None:
    whole = encoded(texts(20, pair=True))
    part = whole.subset([7, 3, 7])
    assert len(part) == 3
    assert part.labels is not None
    assert whole.labels is not None
    assert part.labels.tolist() == whole.labels[[7, 3, 7]].tolist()
    for i, row in enumerate([7, 3, 7]):
        for ours, theirs in ((part.ids, whole.ids), (part.types, whole.types)):
            assert ours is not None
            assert theirs is not None
            found = ours[part.offsets[i] : part.offsets[i + 1]]
            assert found.tolist() == theirs[whole.offsets[row] : whole.offsets[row + 1]].tolist()
    assert part.key != whole.key
    assert part.key == whole.subset(np.array([7, 3, 7])).key
    with pytest.raises(InputError, match="rows from 0 to 19"):
        whole.subset([20])


MEASURE = """
import sys, threading, time
from compressbert.data import tables
from compressbert.config.schema import DataConfig
from compressbert.data.encode import encode
from compressbert.data.batches import training_batches
from compressbert.data.read import read_split
from compressbert.tasks.base import task_for
from tests.tiny import tiny_tokenizer

def anonymous():  # memory of our own, without pages of mapped files
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))

def run(path):
    split = read_split(DataConfig(train=path), "train")
    encoded = encode(split, tiny_tokenizer(), task=task_for(DataConfig(), split.label_names), max_length=32)
    batches = training_batches(encoded, batch_size=32, seed=0, epoch=0, pad_id=0)
    for index in range(50):
        batches[index]
    return encoded

peak, stop = 0, False
def watch():
    global peak
    while not stop:
        peak = max(peak, anonymous())
        time.sleep(0.005)

tables._CHUNK_BYTES = 1 << 18  # so that the small file has several chunks as well
run(sys.argv[1])  # everything is imported and warmed up
before = anonymous()
thread = threading.Thread(target=watch)
thread.start()
run(sys.argv[2])
stop = True
thread.join()
print(peak - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_does_not_grow_with_rows(tmp_path: Path) -> None:
    """As Python objects, 100,000 rows take some 45 MB; ten times the rows may add less than half of that."""
    for name, count in (("small", 10_000), ("large", 100_000)):
        rows = ({"text": f"the film was good and the plot was bad {i}", "label": i % 2} for i in range(count))
        with (tmp_path / f"{name}.jsonl").open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "small.jsonl"), str(tmp_path / "large.jsonl")]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root)
    assert int(done.stdout.split()[-1]) < 20_000  # kB

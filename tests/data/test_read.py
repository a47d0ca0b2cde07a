"""Reading every format, guessing columns and settling labels."""

from __future__ import annotations

import errno
import gzip
import json
import socket
from pathlib import Path
from typing import Any

import datasets
import pytest

from compressbert.config.schema import Columns, DataConfig
from compressbert.data.files import cache_folder
from compressbert.data.read import label_names_of, read_split
from compressbert.errors import ConfigError, InputError, WorkError
from tests.data.listening import hearing
from tests.tiny import write_rows

ROWS = [
    {"sentence": 'a "fine" film, really', "label": 1},
    {"sentence": "None", "label": 0},
    {"sentence": "NA", "label": 0},
    {"sentence": "zwölf Bücher 書", "label": 1},
]


def write(path: Path, text: str | bytes) -> Path:
    raw = text.encode() if isinstance(text, str) else text
    if path.suffix == ".gz":
        raw = gzip.compress(raw)
    path.write_bytes(raw)
    return path


def as_format(path: Path, rows: list[dict[str, Any]]) -> Path:
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        datasets.Dataset.from_list(rows).to_parquet(path)
        return path
    if name.endswith(".jsonl"):
        return write(path, "".join(json.dumps(row) + "\n" for row in rows))
    if name.endswith(".json"):
        return write(path, json.dumps(rows))
    if name.endswith(".csv"):
        quoted = [
            "{},{}".format('"' + row["sentence"].replace('"', '""') + '"', row["label"]) for row in rows
        ]
        return write(path, "sentence,label\n" + "\n".join(quoted) + "\n")
    return write(path, "sentence\tlabel\n" + "".join(f"{row['sentence']}\t{row['label']}\n" for row in rows))


def read(
    path: Path, name: Any = "train", *, label_names: Any = None, need_labels: bool = True, **settings: Any
) -> Any:
    config = DataConfig(**{name: str(path)}, **settings)
    return read_split(config, name, label_names=label_names, need_labels=need_labels)


FORMATS = [
    "a.csv",
    "a.csv.gz",
    "a.tsv",
    "a.tsv.gz",
    "a.json",
    "a.json.gz",
    "a.jsonl",
    "a.jsonl.gz",
    "a.parquet",
]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    split = read(as_format(tmp_path / name, ROWS))
    assert split.rows["text"][:] == [row["sentence"] for row in ROWS]
    assert split.rows["label"][:] == [row["label"] for row in ROWS]
    assert split.label_names == ("0", "1")
    assert list(split.files) == [str(tmp_path / name)]


def test_a_local_path_never_opens_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert len(read(as_format(tmp_path / "a.jsonl", ROWS)).rows) == 4


def test_a_rewritten_file_is_read_anew(tmp_path: Path) -> None:
    path = as_format(tmp_path / "a.jsonl", ROWS)
    read(path)
    as_format(path, [*ROWS[:2], {"sentence": "new", "label": 0}])
    assert read(path).rows["text"][:] == [ROWS[0]["sentence"], ROWS[1]["sentence"], "new"]


def test_a_damaged_cache_of_rows_is_made_anew(tmp_path: Path) -> None:
    path = as_format(tmp_path / "a.jsonl", ROWS)
    before = read(path).rows[:]
    arrows = list((cache_folder() / "rows").rglob("*.arrow"))
    assert len(arrows) == 2  # as parsed, and as converted
    for arrow in arrows:
        raw = arrow.read_bytes()
        arrow.unlink()  # a new file: the old one may still be mapped
        arrow.write_bytes(raw[: len(raw) // 3])
        assert read(path).rows[:] == before


def test_a_full_disk_is_a_work_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = as_format(tmp_path / "a.jsonl", ROWS)
    for name in ("datasets.Dataset.map", "datasets.load_dataset"):
        monkeypatch.setattr(name, full)
        with pytest.raises(WorkError, match="no space left") as caught:
            read(path)
        assert "COMPRESSBERT_CACHE" in caught.value.hint


def test_a_hub_data_set_brings_its_names_and_files_stand_in_for_its_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def hub(path: str, config: str | None = None, *, split: str, **_: Any) -> datasets.Dataset:
        asked.append((path, config, split))
        names = datasets.ClassLabel(names=["negative", "positive"])
        features = datasets.Features(sentence=datasets.Value("string"), label=names)
        return datasets.Dataset.from_dict({"sentence": ["a", "b"], "label": [0, 1]}, features=features)

    original = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", hub)
    split = read_split(DataConfig(hub="glue/sst2"), "train")
    assert (split.label_names, split.rows["label"][:]) == (("negative", "positive"), [0, 1])
    assert list(split.files) == ["hub:glue/sst2[train]"]
    read_split(DataConfig(hub="owner/name"), "train")
    read_split(DataConfig(hub="nyu-mll/glue/cola", train="train[:50]"), "train")
    assert asked == [
        ("glue", "sst2", "train"), ("owner/name", None, "train"), ("nyu-mll/glue", "cola", "train[:50]")
    ]  # fmt: skip
    monkeypatch.setattr(datasets, "load_dataset", original)
    path = as_format(tmp_path / "a.jsonl", ROWS)
    assert len(read_split(DataConfig(hub="glue/sst2", train=str(path)), "train").rows) == 4


def test_txt_for_masked_lm_skips_blank_lines_before_the_limit(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt.gz", "one\n\n  \ntwo\nthree\n")
    assert read(path, task="masked-lm").rows["text"][:] == ["one", "two", "three"]
    assert read(path, task="masked-lm", max_train_rows=2).rows["text"][:] == ["one", "two"]
    with pytest.raises(ConfigError, match="no labels"):
        read(path)


def test_row_limits(tmp_path: Path) -> None:
    path = as_format(tmp_path / "a.jsonl", ROWS)
    assert len(read(path, max_train_rows=3).rows) == 3
    assert len(read(path, "validation", max_validation_rows=2).rows) == 2
    assert len(read(path, max_train_rows=99).rows) == 4


@pytest.mark.parametrize(
    ("names", "pair"),
    [
        (("sentence",), False), (("text",), False), (("sentence1", "sentence2"), True),
        (("premise", "hypothesis"), True), (("question1", "question2"), True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("label", ["label", "labels"])
def test_usual_columns_are_guessed_and_the_guess_is_said(
    tmp_path: Path, names: tuple[str, ...], pair: bool, label: str
) -> None:
    rows = [{"idx": i, **{name: f"{name} {i}" for name in names}, label: i % 2} for i in range(4)]
    with hearing() as heard:
        split = read(write_rows(tmp_path / "a.jsonl", rows))
    assert split.rows.column_names == (["text", "text_pair", "label"] if pair else ["text", "label"])
    assert split.rows[1]["text"] == f"{names[0]} 1"
    assert len(heard.notes) == 1
    assert f"text={names[0]}" in heard.notes[0]
    assert f"label={label}" in heard.notes[0]


def test_configured_columns_are_used_in_silence(tmp_path: Path) -> None:
    rows = [{"sentence": "wrong", "review": f"r{i}", "stars": i % 2, "label": 0} for i in range(4)]
    path = write_rows(tmp_path / "a.jsonl", rows)
    with hearing() as heard:
        split = read(path, columns=Columns(text="review", label="stars"))
    assert split.rows["text"][:] == ["r0", "r1", "r2", "r3"]
    assert split.rows["label"][:] == [0, 1, 0, 1]
    assert heard.notes == []


@pytest.mark.parametrize(
    "row",
    [
        {"sentence": "a", "text": "b", "label": 0},  # two candidates
        {"question": "a", "sentence": "b", "label": 0},  # a pair, or one text?
        {"review": "a", "label": 0},  # none
        {"text": "a", "label": 0, "labels": 1},
        {"text": "a", "stars": 0},
    ],
)
def test_a_guess_that_is_not_unique_asks_for_columns(tmp_path: Path, row: dict[str, Any]) -> None:
    path = write_rows(tmp_path / "a.jsonl", [row, row])
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert "--columns" in caught.value.hint
    assert all(name in caught.value.message for name in row)


def test_a_configured_column_that_is_absent_lists_those_present(tmp_path: Path) -> None:
    path = as_format(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(InputError, match=r"expected a column 'review', found sentence, label"):
        read(path, columns=Columns(text="review"))


def test_labels_are_not_needed_for_texts_alone(tmp_path: Path) -> None:
    split = read(write_rows(tmp_path / "a.jsonl", [{"text": "a"}, {"text": "b"}]), need_labels=False)
    assert split.rows.column_names == ["text"]


class TestLabels:
    def labels(self, tmp_path: Path, values: list[Any], **settings: Any) -> tuple[list[Any], tuple[str, ...]]:
        rows = [{"text": f"t{i}", "label": value} for i, value in enumerate(values)]
        split = read(write_rows(tmp_path / "a.jsonl", rows), **settings)
        return split.rows["label"][:], split.label_names

    def test_strings_by_alphabet(self, tmp_path: Path) -> None:
        assert self.labels(tmp_path, ["pos", "neg", "mid"]) == ([2, 1, 0], ("mid", "neg", "pos"))

    def test_written_integers_by_size(self, tmp_path: Path) -> None:
        assert self.labels(tmp_path, ["10", "9", "1"]) == ([2, 1, 0], ("1", "9", "10"))

    def test_stars_keep_their_names(self, tmp_path: Path) -> None:
        assert self.labels(tmp_path, [5, 1, 3]) == ([2, 0, 1], ("1", "3", "5"))

    def test_whole_floats_and_booleans(self, tmp_path: Path) -> None:
        assert self.labels(tmp_path, [1.0, 0.0]) == ([1, 0], ("0", "1"))
        assert self.labels(tmp_path, [True, False]) == ([1, 0], ("false", "true"))

    def test_configured_names_give_integers_their_meaning(self, tmp_path: Path) -> None:
        assert self.labels(tmp_path, [1, 0], labels=("no", "yes")) == ([1, 0], ("no", "yes"))
        assert self.labels(tmp_path, ["yes", "no"], labels=("yes", "no")) == ([0, 1], ("yes", "no"))

    def test_the_models_order_rules_for_strings(self, tmp_path: Path) -> None:
        found = self.labels(tmp_path, ["neg", "pos"], label_names=("pos", "neg"))
        assert found == ([1, 0], ("pos", "neg"))

    def test_placeholders_of_a_model_are_no_names(self, tmp_path: Path) -> None:
        generic = ("LABEL_0", "LABEL_1")
        assert self.labels(tmp_path, ["b", "a"], label_names=generic) == ([1, 0], ("a", "b"))
        assert self.labels(tmp_path, [0, 1], label_names=(*generic, "LABEL_2"))[1] == ("0", "1", "2")
        with pytest.raises(InputError, match="2 outputs, found 3"):
            self.labels(tmp_path, ["a", "b", "c"], label_names=generic)

    def test_integers_beyond_the_model_name_the_line(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"a\.jsonl:3: expected a label from 0 to 1 .*found 2"):
            self.labels(tmp_path, [0, 1, 2], label_names=("neg", "pos"))

    def test_a_hidden_label_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"a\.jsonl:2.*found -1"):
            self.labels(tmp_path, [0, -1], label_names=("neg", "pos"))

    def test_unknown_strings_list_both_sets(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"'neg', 'pos'.*'bad', 'good'"):
            self.labels(tmp_path, ["good", "bad"], label_names=("neg", "pos"))

    @pytest.mark.parametrize("names", [("pos", "neg"), ("neg", "good")])
    def test_configured_names_that_disagree_with_the_model_are_refused(
        self, tmp_path: Path, names: tuple[str, ...]
    ) -> None:
        with pytest.raises(
            InputError, match="order differ" if set(names) == {"pos", "neg"} else "names differ"
        ):
            self.labels(tmp_path, [0, 1], labels=names, label_names=("neg", "pos"))

    def test_stored_names_that_disagree_with_the_model_are_refused(self, tmp_path: Path) -> None:
        features = datasets.Features(
            text=datasets.Value("string"), label=datasets.ClassLabel(names=["pos", "neg"])
        )
        table = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features=features)
        table.to_parquet(tmp_path / "a.parquet")
        split = read(tmp_path / "a.parquet")
        assert (split.rows["label"][:], split.label_names) == ([0, 1], ("pos", "neg"))
        with pytest.raises(InputError, match="order differ"):
            read(tmp_path / "a.parquet", label_names=("neg", "pos"))
        with pytest.raises(InputError, match="order differ"):
            read(tmp_path / "a.parquet", labels=("neg", "pos"))

    def test_validation_takes_the_names_of_training(self, tmp_path: Path) -> None:
        train = write_rows(tmp_path / "t.jsonl", [{"text": "x", "label": name} for name in "abc"])
        validation = write_rows(tmp_path / "v.jsonl", [{"text": "x", "label": name} for name in "cb"])
        config = DataConfig(train=str(train), validation=str(validation))
        split = read_split(config, "validation")
        assert (split.rows["label"][:], split.label_names) == ([2, 1], ("a", "b", "c"))
        assert label_names_of(config) == ("a", "b", "c")

    def test_fractions_are_no_classes(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"class labels, found the number 2\.5"):
            self.labels(tmp_path, [1.0, 2.5])

    def test_one_class_cannot_be_trained_and_is_a_warning_elsewhere(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="at least two classes"):
            self.labels(tmp_path, ["a", "a"])
        path = write_rows(tmp_path / "v.jsonl", [{"text": "x", "label": 1}] * 3)
        with hearing() as heard:
            assert read(path, "validation", label_names=("no", "yes")).rows["label"][:] == [1, 1, 1]
        assert "all 3 rows have the label 'yes'" in heard.warnings[0]

    def test_integers_in_csv_are_ids_of_a_named_model(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.csv", "text,label\nx,1\ny,0\n")
        assert read(path, label_names=("neg", "pos")).rows["label"][:] == [1, 0]


class TestRegression:
    def test_numbers_of_any_kind(self, tmp_path: Path) -> None:
        path = write_rows(tmp_path / "a.jsonl", [{"text": "x", "label": 3}, {"text": "y", "label": 2.5}])
        split = read(path, task="regression")
        assert split.rows["label"][:] == [3.0, 2.5]
        assert split.label_names == ()
        assert read(write(tmp_path / "a.csv", "text,label\nx,1.5\n"), task="regression").rows["label"][:] == [
            1.5
        ]

    @pytest.mark.parametrize("value", ["NaN", "Infinity"])
    def test_a_number_that_is_none_names_the_line(self, tmp_path: Path, value: str) -> None:
        lines = ['{"text": "x", "label": 1.5}', f'{{"text": "y", "label": {value}}}', ""]
        path = write(tmp_path / "a.jsonl", "\n".join(lines))
        with pytest.raises(InputError, match=r"a\.jsonl:2"):
            read(path, task="regression")

    def test_words_are_no_numbers(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"a\.csv:3: expected a finite number in 'label', found much"):
            read(write(tmp_path / "a.csv", "text,label\nx,1\ny,much\n"), task="regression")


class TestMultiLabel:
    def read(self, tmp_path: Path, values: list[Any], **settings: Any) -> Any:
        rows = [{"text": f"t{i}", "labels": value} for i, value in enumerate(values)]
        return read(write_rows(tmp_path / "a.jsonl", rows), task="multi-label", **settings)

    def test_lists_of_names(self, tmp_path: Path) -> None:
        split = self.read(tmp_path, [["b"], [], ["c", "a"]])
        assert split.label_names == ("a", "b", "c")
        assert split.rows["label"][:] == [[0, 1, 0], [0, 0, 0], [1, 0, 1]]

    def test_lists_of_ids(self, tmp_path: Path) -> None:
        split = self.read(tmp_path, [[2], [0, 1]], label_names=("x", "y", "z"))
        assert split.rows["label"][:] == [[0, 0, 1], [1, 1, 0]]

    def test_a_zero_or_one_for_each_class(self, tmp_path: Path) -> None:
        split = self.read(tmp_path, [[0, 1, 1], [1, 0, 0]], labels=("x", "y", "z"))
        assert split.rows["label"][:] == [[0, 1, 1], [1, 0, 0]]
        with pytest.raises(InputError, match=r"3 outputs|2 numbers|expected"):
            self.read(tmp_path, [[0, 1, 1], [1, 0, 0]], label_names=("x", "y"))

    def test_unknown_names_and_single_labels_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"a\.jsonl:2.*'q'"):
            self.read(tmp_path, [["x"], ["y", "q"]], label_names=("x", "y"))
        with pytest.raises(InputError, match="lists of labels"):
            self.read(tmp_path, ["x", "y"])
        with pytest.raises(InputError, match=r"a\.jsonl:2: expected a label"):
            self.read(tmp_path, [["x"], ["y", None]])

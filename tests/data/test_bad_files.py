"""Unusable files: one clear message each, with the line where there is one."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from compressbert.config.schema import DataConfig
from compressbert.data.files import format_of
from compressbert.data.read import Split, read_split
from compressbert.errors import CompressbertError, ConfigError, InputError

GOOD = b'{"sentence": "fine", "label": 1}\n{"sentence": "bad", "label": 0}\n'


def read(path: Path) -> Split:
    return read_split(DataConfig(train=str(path)), "train")


CASES = {
    "empty.jsonl": (b"", "is empty"),
    "empty.csv": (b"", "is empty"),
    "empty.jsonl.gz": (gzip.compress(b""), "is empty"),
    "header.csv": (b"sentence,label\n", "has no rows"),
    "header.tsv": (b"sentence\tlabel\n", "has no rows"),
    "list.json": (b"[]", "has no rows"),
    "cut.jsonl": (GOOD + b'{"sentence": "x", "lab\n' + GOOD, r"cut\.jsonl:3: not valid JSON"),
    "cut.jsonl.gz": (gzip.compress(GOOD + b"{]\n"), r"cut\.jsonl\.gz:3: not valid JSON"),
    "scalar.jsonl": (GOOD + b"17\n", r"scalar\.jsonl:3: expected a JSON object, found a number"),
    "kinds.jsonl": (
        GOOD + b'{"sentence": "x", "label": "good"}\n',
        r"kinds\.jsonl:3: column 'label' is a string here",
    ),
    "texts.jsonl": (
        GOOD + b'{"sentence": 3, "label": 1}\n',
        r"texts\.jsonl:3: column 'sentence' is a number here",
    ),
    "missing.jsonl": (GOOD + b'\n{"sentence": "x"}\n', r"missing\.jsonl:4: expected a label"),
    "null.jsonl": (GOOD + b'{"sentence": null, "label": 1}\n', r"null\.jsonl:3: expected a text"),
    "array.json": (
        b'[{"sentence": "a", "label": 1},\n{"sentence": "b", "label": 0]',
        r"array\.json:2: not valid JSON",
    ),
    "latin.jsonl": (
        GOOD + b'{"sentence": "caf\xe9", "label": 1}\n',
        r"latin\.jsonl:3: expected UTF-8 .* byte 0xe9",
    ),
    "latin.csv": (
        b"sentence,label\nok,1\ncaf\xe9,0\n",
        r"latin\.csv:3: expected UTF-8 .* byte 0xe9 at byte 4",
    ),
    "latin_header.csv": (b"caf\xe9,label\nok,1\n", r"latin_header\.csv:1: expected UTF-8"),
    "wide.csv": (
        b"sentence,label\nok,1\nx,0,3\n",
        r"wide\.csv:3: expected 2 fields \(sentence, label\), found 3",
    ),
    "all_wide.csv": (b"sentence,label\na,b,1\nc,d,0\n", r"all_wide\.csv:2: expected 2 fields .* found 3"),
    "narrow.csv": (b"label,sentence\n1,ok\n0\n", r"narrow\.csv:3: expected 2 fields .* found 1"),
    "quote.csv": (
        b'sentence,label\nok,1\n"x,0\ny,1\n',
        r"quote\.csv:3: a quote that opens here is never closed",
    ),
    "twice.csv": (b"label,label\na,1\n", r"twice\.csv:1: a column name stands twice"),
    "numbers.jsonl": (b'{"sentence": 1, "label": 1}\n', "expected text in column 'sentence', found int64"),
    "broken.jsonl.gz": (gzip.compress(GOOD * 4000)[:90], "cannot be read"),
    "notgz.jsonl.gz": (GOOD, "cannot be opened"),
    "no.parquet": (b"PAR1 not really", "cannot be read"),
    "a.xlsx": (b"PK", "expected a data file ending in"),
}


@pytest.mark.parametrize("name", CASES)
def test_each_fault_has_one_clear_message(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    content, expected = CASES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=expected) as caught:
        read(tmp_path / name)
    assert caught.value.exit_code == 3
    assert caught.value.hint
    assert name in caught.value.message
    assert capfd.readouterr() == ("", "")  # nothing of the libraries' own complaints


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ('{"sentence": "x", "label": 0, "extra": 1}', "column 'extra' is not in the lines before"),
        ('{"sentence": "x", "label": 0.5}', r"column 'label' is 0\.5 here and whole in line 1"),
        ('{"sentence": "x", "label": "0"}', "column 'label' is a string here and a number in line 1"),
    ],
)
def test_a_change_after_the_readers_first_chunk_names_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str, expected: str
) -> None:
    monkeypatch.setattr("compressbert.data.tables._CHUNK_BYTES", 200)
    (tmp_path / "a.jsonl").write_bytes(GOOD * 10 + last.encode() + b"\n")
    with pytest.raises(InputError, match=r"a\.jsonl:21: " + expected):
        read(tmp_path / "a.jsonl")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not found"):
        read(tmp_path / "absent.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(InputError, match="found a folder"):
        read(tmp_path / "folder.jsonl")


def test_no_file_configured() -> None:
    with pytest.raises(ConfigError, match=r"data\.validation: expected a file"):
        read_split(DataConfig(), "validation")


def test_a_hub_name_offline_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(CompressbertError) as caught:
        read_split(DataConfig(hub="glue/sst2"), "train")
    assert caught.value.exit_code == 3
    assert "glue/sst2" in caught.value.message
    assert "data.train=FILE" in caught.value.hint
    with pytest.raises(ConfigError, match="OWNER/NAME/CONFIG"):
        read_split(DataConfig(hub="a/b/c/d"), "train")


def test_a_row_of_a_megabyte_and_line_breaks_inside_fields_are_fine(tmp_path: Path) -> None:
    long = "word " * 200_000
    path = tmp_path / "a.csv"
    path.write_text(f'sentence,label\n"{long}",1\n"two\nlines",0\n', encoding="utf-8")
    rows = read(path).rows
    assert rows[0]["text"] == long
    assert rows[1]["text"] == "two\nlines"


def test_the_line_after_a_field_with_line_breaks_is_counted_right(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('sentence,label\n"two\nlines",0\n\nok,1\nx,7\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.csv:6: expected a label from 0 to 1"):
        read_split(DataConfig(train=str(path)), "train", label_names=("a", "b"))


def test_a_byte_order_mark_and_windows_line_ends_are_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbfsentence,label\r\nok,1\r\nbad,0\r\n")
    assert read(path).rows["text"][:] == ["ok", "bad"]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n"))
    assert read(path).rows["text"][:] == ["fine", "bad"]


def test_an_index_column_without_a_name_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(",sentence,label\n0,ok,1\n1,bad,0\n", encoding="utf-8")
    assert read(path).rows["text"][:] == ["ok", "bad"]


@pytest.mark.parametrize("name", ["x.TSV.GZ", "my.data.tsv", "x.tsv"])
def test_formats_by_name(name: str) -> None:
    assert format_of(Path(name)) == "tsv"

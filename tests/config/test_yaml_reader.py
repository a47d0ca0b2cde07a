"""YAML as data: what scalars mean, where keys stand, and what is refused."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from compressbert.config.problems import Place
from compressbert.config.yaml_reader import MAX_BYTES, read_value, read_yaml
from compressbert.errors import ConfigError


def read(text: str) -> dict[str, Any]:
    document = read_yaml(text.encode(), "c.yaml")
    assert document.problems == []
    return document.data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-5", 2e-5), ("1e-4", 1e-4), ("1.5E+3", 1500.0), (".5", 0.5), ("3.", 3.0), ("-.inf", -math.inf),
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("off", "off"), ("y", "y"), ("n", "n"), ("NO", "NO"),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None), ("Nan", "Nan"),
        ("12", 12), ("-7", -7), ("+7", 7), ("010", 10), ("0x1F", 31), ("0o17", 15), ("1_000", "1_000"),
        ("12:30", "12:30"), ("2024-01-01", "2024-01-01"), ("=", "="), ("1.2.3", "1.2.3"), ("e5", "e5"),
        ("'true'", "true"), ('"1e-4"', "1e-4"), ("!!str 5", "5"), ("!!float 5", 5.0),
        ("[1, no, 2e-5]", [1, "no", 2e-5]),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    found = read_value(text, "--set")
    assert found == value
    assert type(found) is type(value)


def test_names_that_yaml_1_1_takes_for_booleans_are_names() -> None:
    assert read("labels: [no, yes]\non: off\ny: n\n") == {"labels": ["no", "yes"], "on": "off", "y": "n"}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_comes_through(value: float) -> None:
    found = read_value(repr(value), "--set")
    assert float(found) == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(codec="utf-8", exclude_categories=("C",)), max_size=12),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text("abcdef", min_size=1), inner, max_size=3)
        ),
        max_leaves=8,
    )
)  # fmt: skip
def test_what_pyyaml_writes_is_read_back(value: Any) -> None:
    # PyYAML quotes by YAML 1.1, which quotes a superset of what 1.2 needs, except plain floats such as 1e+16
    assert read(yaml.safe_dump({"key": value}, allow_unicode=True)) == {"key": value}


def test_every_key_and_item_has_its_place() -> None:
    document = read_yaml(b"model:\n  path: x\nsteps:\n  - prune: {keep: 1}\n  - b\n", "c.yaml")
    assert document.place(("model", "path")) == Place("c.yaml", 2, 3)
    assert document.place(("steps", 0, "prune", "keep")) == Place("c.yaml", 4, 13)
    assert document.place(("steps", 1)) == Place("c.yaml", 5, 5)
    assert document.place(("model", "missing", "deeper")) == Place(
        "c.yaml", 1, 1
    )  # the nearest part that exists
    assert str(document.place(("absent",))) == "c.yaml"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "c.yaml: empty"),
        (b"# only a comment\n", "c.yaml: empty"),
        (b"- a\n- b\n", "c.yaml:1:1: expected a mapping of settings (key: value) at the top, found a list"),
        (b"just words", "found 'just words'"),
        (b"a: 1\nb: [1, 2\nc: 3\n", "c.yaml:3:2: not YAML"),
        (b"a: 1\n\tb: 2\n", "c.yaml:2:1: not YAML"),
        (b"a: b: c\n", "c.yaml:1:5: not YAML"),
        (b"a: *nowhere\n", "c.yaml:1:4: not YAML"),
        (b"a: 1\n---\nb: 2\n", "c.yaml:2:1: not YAML"),
        (b"a: ok\nb: caf\xe9\n", "c.yaml:2:7: expected UTF-8 text, found byte 0xe9"),
        (b"a: ok\nb: \x00\n", "c.yaml:2:4: not YAML: character"),
        (b"a: x" + b"y" * MAX_BYTES, "larger than 1,000,000 bytes"),
        (b"a: &a [*a]\n", "once aliases are followed"),
    ],
)
def test_what_is_not_settings_is_refused_with_its_place(content: bytes, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_yaml(content, "c.yaml")
    assert message in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("opening", [b"[", b"{a: ", b"- ", b"a: 1\n"])
def test_a_flood_is_refused_soon(opening: bytes) -> None:
    started = time.monotonic()
    with pytest.raises(ConfigError):
        read_yaml((opening * 10_000_000)[:999_999], "c.yaml")
    assert time.monotonic() - started < 10


def test_ten_megabytes_of_nesting_are_refused() -> None:
    with pytest.raises(ConfigError, match="larger than"):
        read_yaml(b"[" * 10_000_000, "c.yaml")
    with pytest.raises(ConfigError, match=r"c\.yaml:1:41: not YAML: nested deeper than 40 levels"):
        read_yaml(b"[" * 1000, "c.yaml")


def test_an_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    started = time.monotonic()
    with pytest.raises(ConfigError, match="more than 20,000 values"):
        read_yaml("\n".join(lines).encode(), "c.yaml")
    assert time.monotonic() - started < 5


def test_anchors_and_merge_keys_work() -> None:
    text = "base: &b {x: 1, y: 2}\none: {<<: *b, y: 3}\ntwo: {<<: [{x: 9}, *b]}\nthree: *b\n"
    assert read(text) == {
        "base": {"x": 1, "y": 2},
        "one": {"x": 1, "y": 3},
        "two": {"x": 9, "y": 2},
        "three": {"x": 1, "y": 2},
    }


@pytest.mark.parametrize(
    "tag",
    ["!!python/object/apply:os.system [echo]", "!!python/name:os.system ''", "!mine x", "!!binary aGk="],
)
def test_tags_that_build_objects_are_refused(tag: str) -> None:
    document = read_yaml(f"a: 1\nmodel: {tag}\n".encode(), "c.yaml")
    (problem,) = document.problems
    assert document.line(problem).startswith("c.yaml:2:8: model: the tag !")
    assert "refused: settings are plain data" in problem.text


def test_keys_written_twice_are_all_reported() -> None:
    document = read_yaml(b"a: 1\nb:\n  c: 1\n  c: 2\na: 3\n", "c.yaml")
    assert [document.line(problem) for problem in document.problems] == [
        "c.yaml:4:3: b.c: written twice (first at c.yaml:3:3)",
        "c.yaml:5:1: a: written twice (first at c.yaml:1:1)",
    ]


def test_a_list_as_key_is_reported() -> None:
    assert read_yaml(b"? [a, b]\n: 1\n", "c.yaml").problems[0].text == "a key must be plain text"


def test_a_byte_order_mark_is_no_key() -> None:
    assert read_yaml(b"\xef\xbb\xbfa: 1\n", "c.yaml").data == {"a": 1}

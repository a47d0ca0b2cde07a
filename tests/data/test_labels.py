"""The rules that turn labels into ids, apart from any file."""

from __future__ import annotations

import pytest

from compressbert.data.labels import ids_of, names_from_values, plain, settle_names
from compressbert.errors import InputError


@pytest.mark.parametrize(
    ("values", "names", "stored", "expected"),
    [
        (["b", "a"], ("a", "b"), False, {"b": 1, "a": 0}),
        ([1, 0], ("no", "yes"), False, {1: 1, 0: 0}),
        (["1", "0"], ("no", "yes"), False, {"1": 1, "0": 0}),
        (["1", "x"], ("no", "yes"), False, {}),  # a column of words: "1" is not an id there
        ([1, 2, 3], ("1", "2", "3"), False, {1: 0, 2: 1, 3: 2}),
        ([0, 1], ("1", "2"), True, {0: 0, 1: 1}),  # ids by declaration, though the names are integers
        ([0, 1], ("1", "2"), False, {1: 0}),
        ([0, 1], ("1", "a"), False, {0: 0, 1: 1}),  # not all names are integers: ids
        ([2, -1], ("no", "yes"), False, {}),
        (["yes"], ("no", "yes"), False, {"yes": 1}),
    ],
)
def test_ids(
    values: list[str | int], names: tuple[str, ...], stored: bool, expected: dict[str | int, int]
) -> None:
    assert ids_of(values, names, stored=stored) == expected


def test_names_from_values_sort_numbers_by_size() -> None:
    assert names_from_values([10, 9, -1]) == ("-1", "9", "10")
    assert names_from_values(["b", "10", "a"]) == ("10", "a", "b")


def test_plain_values() -> None:
    assert [plain(value) for value in (True, False, 2.0, 3, "x")] == ["true", "false", 2, 3, "x"]
    with pytest.raises(InputError, match="regression"):
        plain(0.5)


def test_sources_of_names_have_an_order_of_precedence() -> None:
    def settle(configured: object = None, stored: object = None, model: object = None) -> tuple[str, ...]:
        return settle_names([0, 1], configured=configured, stored=stored, model=model, where="x")  # type: ignore[arg-type]

    assert settle() == ("0", "1")
    assert settle(stored=("a", "b")) == ("a", "b")
    assert settle(configured=("c", "d")) == ("c", "d")
    assert settle(model=("e", "f")) == ("e", "f")
    assert settle(stored=("a", "b"), model=("LABEL_0", "LABEL_1")) == ("a", "b")
    with pytest.raises(InputError, match="order differ"):
        settle(configured=("a", "b"), stored=("b", "a"))
    with pytest.raises(InputError, match="names differ"):
        settle(stored=("a", "b"), model=("e", "f"))

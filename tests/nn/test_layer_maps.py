"""Which layers a shallower model keeps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressbert.errors import ConfigError
from compressbert.nn.layer_maps import choose_layers, every_other


def test_every_other_gives_the_published_distilbert_layers() -> None:
    assert every_other(12, 6) == (0, 2, 4, 7, 9, 11)


@pytest.mark.parametrize(
    ("count", "keep", "expected"),
    [
        (6, 3, (0, 2, 4)),
        (6, 2, (0, 3)),
        (12, 3, (0, 4, 8)),
        (6, 4, (0, 1, 3, 4)),
        (2, 1, (0,)),
        (5, 5, (0, 1, 2, 3, 4)),
    ],
)
def test_every_other(count: int, keep: int, expected: tuple[int, ...]) -> None:
    assert every_other(count, keep) == expected


@given(st.integers(1, 48), st.data())
def test_every_choice_keeps_as_many_distinct_layers_as_asked(count: int, data: st.DataObject) -> None:
    keep = data.draw(st.integers(1, count))
    for choice in ("every-other", "first", "last"):
        layers = choose_layers(count, keep, choice)
        assert len(layers) == keep
        assert list(layers) == sorted(set(layers))
        assert layers[0] >= 0
        assert layers[-1] < count


def test_choices() -> None:
    assert choose_layers(6, 2, "first") == (0, 1)
    assert choose_layers(6, 2, "last") == (4, 5)
    assert choose_layers(6, (5, 0, 2), "first") == (0, 2, 5)
    assert choose_layers(5, None, "first") == (0, 1, 2)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (9, "9 of 6"),
        (0, "0 of 6"),
        ((0, 6), "no layer 6"),
        ((1, 1), "twice"),
        ((), "empty"),
        ((-1,), "no layer -1"),
    ],
)
def test_impossible_layers_are_refused(layers: int | tuple[int, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        choose_layers(6, layers, "every-other")
    assert raised.value.hint

"""Augmented splits: pairs, duplicates, labels, the cache and memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from compressbert.config.augment import SubstituteSettings
from compressbert.config.schema import DataConfig
from compressbert.data.augment import rows as rows_module
from compressbert.data.augment.rows import Maker, augmented
from compressbert.data.augment.substitutes import Substitutes
from compressbert.data.augment.words import Word
from compressbert.data.read import Split, read_split
from tests.tiny import toy_rows, write_rows


class Synonyms:
    """Proposes word1, word2, … in place of a word."""

    def __init__(self, count: int = 3) -> None:
        self.count, self.asked = count, 0

    def propose(self, places: Sequence[tuple[str, Word]]) -> list[tuple[str, ...]]:
        self.asked += len(places)
        for text, word in places:
            assert text[word.start : word.end] == word.text
        return [tuple(f"{word.text}{number}" for number in range(self.count)) for _, word in places]


def split_of(folder: Path, *, pairs: bool = False, count: int = 20) -> Split:
    file = write_rows(folder / f"rows-{pairs}-{count}.jsonl", toy_rows(count, pairs=pairs))
    return read_split(DataConfig(train=str(file)), "train")


def made_of(
    split: Split, *, chance: float = 0.4, variants: int = 6, seed: int = 0, synonyms: Synonyms | None = None
) -> Split:
    def make() -> Maker:
        return Substitutes(SubstituteSettings(chance=chance), synonyms or Synonyms())

    return augmented(split, make, variants=variants, seed=seed, depends_on=["test", chance])


def originals(split: Split) -> list[tuple[str, ...]]:
    names = [name for name in ("text", "text_pair") if name in split.rows.column_names]
    return list(zip(*(split.rows[name] for name in names), strict=True))


def test_each_row_is_followed_by_what_is_made_of_it(tmp_path: Path) -> None:
    split = split_of(tmp_path)
    made = made_of(split)
    texts = list(made.rows["text"])
    starts = [texts.index(text) for (text,) in originals(split)]
    assert starts == sorted(starts)
    for start, end in zip(starts, [*starts[1:], len(texts)], strict=True):
        group = texts[start:end]
        assert 1 < len(group) <= 7
        assert len(set(group)) == len(group)
        for text in group[1:]:
            for old, new in zip(group[0].split(), text.split(), strict=True):
                assert new.rstrip("012") == old


def test_labels_are_never_invented(tmp_path: Path) -> None:
    split = split_of(tmp_path)
    assert "label" in split.rows.column_names
    assert made_of(split).rows.column_names == ["text"]


@pytest.mark.parametrize("pairs", [False, True])
def test_without_chance_only_the_originals_are_left(pairs: bool, tmp_path: Path) -> None:
    split = split_of(tmp_path, pairs=pairs)
    assert originals(made_of(split, chance=0)) == originals(split)


def test_known_bug_a_pairs_second_text_is_varied_beside_the_original_first_one(tmp_path: Path) -> None:
    """TinyBERT's published augmenter overwrites text 1, so text 2 is varied against text 1's last variant."""
    split = split_of(tmp_path, pairs=True)
    made, known = originals(made_of(split, variants=9)), originals(split)
    starts = [*(made.index(pair) for pair in known), len(made)]
    kinds = set()
    for (first, second), start, end in zip(known, starts[:-1], starts[1:], strict=True):
        for one, other in made[start + 1 : end]:
            kinds.add((one != first, other != second))
            for new, old in (
                (one, first),
                (other, second),
            ):  # one replacement deep: never a variant of a variant
                assert [word.rstrip("012") for word in new.split()] == old.split()
                assert all(len(word) - len(word.rstrip("012")) <= 1 for word in new.split())
    assert kinds == {(True, False), (False, True), (True, True)}


def test_the_seed_and_the_row_alone_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = split_of(tmp_path)
    one, other = made_of(split, seed=3), made_of(split, seed=4)
    assert list(one.rows["text"]) != list(other.rows["text"])
    monkeypatch.setattr(rows_module, "_ROWS_AT_ONCE", 3)
    monkeypatch.setattr(rows_module, "_SCHEMA", -1)  # another name in the cache
    again = made_of(split, seed=3)
    assert list(again.rows["text"]) == list(one.rows["text"])


def test_what_was_made_is_read_back(tmp_path: Path) -> None:
    split, synonyms = split_of(tmp_path), Synonyms()
    first = made_of(split, synonyms=synonyms)
    asked = synonyms.asked
    assert asked > 0
    again = made_of(split, synonyms=synonyms)
    assert synonyms.asked == asked
    assert list(again.rows["text"]) == list(first.rows["text"])
    assert again.rows.cache_files  # in a file, not in memory
    made_of(split, synonyms=synonyms, variants=7)
    assert synonyms.asked == 2 * asked


def test_rows_are_prepared_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "_ROWS_AT_ONCE", 4)
    sizes: list[int] = []

    class Counting(Substitutes):
        def prepare(self, texts: Sequence[str]) -> list:  # type: ignore[type-arg]
            sizes.append(len(texts))
            return super().prepare(texts)

    split = split_of(tmp_path, count=10)
    make = lambda: Counting(SubstituteSettings(), Synonyms())  # noqa: E731
    augmented(split, make, variants=2, seed=0, depends_on=["counting"])
    assert sizes == [4, 4, 2]


def test_every_content_word_is_replaced_with_certainty_by_all_its_candidates(tmp_path: Path) -> None:
    file = write_rows(
        tmp_path / "rows.jsonl", [{"text": "the film was good , 5", "label": i} for i in range(2)]
    )
    split = read_split(DataConfig(train=str(file)), "train")
    made = set(made_of(split, chance=1, variants=60).rows["text"])
    assert made == {"the film was good , 5"} | {
        f"the film{i} was good{j} , 5" for i in range(3) for j in range(3)
    }


def test_each_word_is_replaced_with_its_chance() -> None:
    (text,) = Substitutes(SubstituteSettings(chance=0.4), Synonyms(1)).prepare([" ".join(["good"] * 1000)])
    made = text.vary(np.random.default_rng(0))
    assert 355 <= made.split().count("good0") <= 445  # 400 expected, standard deviation 15.5

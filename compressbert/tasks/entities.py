"""Named entities in tag sequences, and metrics over them.

An entity is (kind, first word, last word). Two readings of tags:

- lenient, the rules of CoNLL's own script, which fit IOB1, IOB2 and BIOES alike: an entity begins where a tag
  says so or where the kind changes, so an I- after O begins one too;
- strict, per scheme: tags that are not well formed make no entity.

Both are those of seqeval (Nakayama 2018), with which they are compared in the tests.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compressbert.config.schema import TagScheme
from compressbert.tasks.metrics import Array, Floats, Metric, ratio

Entity = tuple[str, int, int]
Tag = tuple[str, str]  # prefix (B, I, E, S or O) and kind

_OUTSIDE: Tag = ("O", "")
_PREFIXES = {"IOB1": "IB", "IOB2": "IB", "BIOES": "BIES"}


def parse(name: str) -> Tag:
    """Prefix and kind of a tag: B-LOC is ("B", "LOC")."""
    prefix, _, kind = name.partition("-")
    return _OUTSIDE if name == "O" else (prefix, kind or "_")


def detect_scheme(names: Sequence[str]) -> TagScheme | None:
    """The scheme that a set of tag names speaks of; None if they mark no entities.

    Names alone do not tell IOB1 from IOB2; where both fit it is IOB2.
    """
    tags = [name for name in names if name != "O"]
    prefixes = {name[:1] for name in tags}
    marked = bool(tags) and all(name[1:2] == "-" or name in ("B", "I", "E", "S") for name in tags)
    if not marked or not prefixes <= set("BIES") or not prefixes & set("BIS"):
        return None
    if prefixes & set("ES"):
        return "BIOES"
    return "IOB2" if "B" in prefixes else "IOB1"


def entities_of(names: Sequence[str], strict: TagScheme | None = None) -> set[Entity]:
    """The entities of one sentence's tags, read by the strict rules of a scheme or leniently."""
    tags = [parse(name) for name in names]
    return _strict(tags, strict) if strict else _lenient(tags)


def _lenient(tags: Sequence[Tag]) -> set[Entity]:
    found: set[Entity] = set()
    before, first = _OUTSIDE, 0
    for place, tag in enumerate([*tags, _OUTSIDE]):
        if _ends(before, tag):
            found.add((before[1], first, place - 1))
        if _begins(before, tag):
            first = place
        before = tag
    return found


def _ends(before: Tag, tag: Tag) -> bool:
    if before[0] == "O":
        return False
    return before[0] in "ES" or tag[0] in "BSO" or before[1] != tag[1]


def _begins(before: Tag, tag: Tag) -> bool:
    if tag[0] == "O":
        return False
    return tag[0] in "BS" or before[0] in "ESO" or before[1] != tag[1]


def _strict(tags: Sequence[Tag], scheme: TagScheme) -> set[Entity]:
    found: set[Entity] = set()
    before, place = _OUTSIDE, 0
    while place < len(tags):
        if not _starts(before, tags[place], scheme):
            before, place = tags[place], place + 1
            continue
        first, before, place = place, tags[place], place + 1
        while place < len(tags) and _continues(before, tags[place], scheme):
            before, place = tags[place], place + 1
        if _complete(before, tags[place] if place < len(tags) else _OUTSIDE, scheme):
            found.add((before[1], first, place - 1))
    return found


def _starts(before: Tag, tag: Tag, scheme: TagScheme) -> bool:
    if scheme != "IOB1":
        return tag[0] in "BS"
    same = before[1] == tag[1]
    if tag[0] == "I":  # I opens an entity unless it goes on with one of its own kind
        return before[0] != "I" or not same
    return tag[0] == "B" and before[0] in "IB" and same  # B only parts it from a neighbour of its own kind


def _complete(last: Tag, following: Tag, scheme: TagScheme) -> bool:
    """Whether an entity may end with ``last`` before ``following``."""
    if scheme == "BIOES":
        return last[0] in "ES"
    # In IOB1 a B stands between neighbours of one kind, so B-LOC B-PER is not well formed.
    return scheme == "IOB2" or last[0] == "I" or following[0] != "B" or following[1] == last[1]


def _continues(before: Tag, tag: Tag, scheme: TagScheme) -> bool:
    inside = "IE" if scheme == "BIOES" else "I"
    return before[0] in "BI" and tag[0] in inside and before[1] == tag[1]


def sentence_counts(gold: set[Entity], predicted: set[Entity]) -> tuple[int, int, int]:
    """Entities found, predicted and true."""
    return len(gold & predicted), len(predicted), len(gold)


# metrics over scores (N, 5): entities found, predicted, true; words right, all words


def _entity_columns(scores: Array, _: Array) -> Floats:
    return np.asarray(scores[:, :3], dtype=np.float64)


def _word_columns(scores: Array, _: Array) -> Floats:
    return np.asarray(scores[:, 3:5], dtype=np.float64)


def _f1(sums: NDArray[np.float64]) -> Floats:
    return ratio(2 * sums[..., 0], sums[..., 1] + sums[..., 2])


def _precision(sums: NDArray[np.float64]) -> Floats:
    return ratio(sums[..., 0], sums[..., 1])


def _recall(sums: NDArray[np.float64]) -> Floats:
    return ratio(sums[..., 0], sums[..., 2])


def _share(sums: NDArray[np.float64]) -> Floats:
    return ratio(sums[..., 0], sums[..., 1])


ENTITY_F1 = Metric("entity_f1", "higher", _entity_columns, _f1)
ENTITY_PRECISION = Metric("entity_precision", "higher", _entity_columns, _precision)
ENTITY_RECALL = Metric("entity_recall", "higher", _entity_columns, _recall)
TAG_ACCURACY = Metric("accuracy", "higher", _word_columns, _share)

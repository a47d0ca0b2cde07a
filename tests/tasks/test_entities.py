"""Entities by hand, and against seqeval where it is installed."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pytest

from compressbert.tasks import entities as e

SCHEMES = {"IOB1": "IB", "IOB2": "IB", "BIOES": "BIES"}


@pytest.mark.parametrize(
    ("tags", "lenient", "strict"),
    [
        ("B-P I-P O B-L", {("P", 0, 1), ("L", 3, 3)}, {("P", 0, 1), ("L", 3, 3)}),
        ("O I-P I-P", {("P", 1, 2)}, set()),  # no B: begins leniently
        ("B-P B-P I-L", {("P", 0, 0), ("P", 1, 1), ("L", 2, 2)}, {("P", 0, 0), ("P", 1, 1)}),
        ("O O", set(), set()),
        ("B-A-B I-A-B", {("A-B", 0, 1)}, {("A-B", 0, 1)}),  # the kind may hold a dash
    ],
)
def test_iob2_by_hand(tags: str, lenient: set[e.Entity], strict: set[e.Entity]) -> None:
    assert e.entities_of(tags.split()) == lenient
    assert e.entities_of(tags.split(), "IOB2") == strict


@pytest.mark.parametrize(
    ("tags", "scheme", "expected"),
    [
        ("I-P I-P I-L", "IOB1", {("P", 0, 1), ("L", 2, 2)}),
        ("I-P B-P O", "IOB1", {("P", 0, 0), ("P", 1, 1)}),
        ("O B-P", "IOB1", set()),  # B only parts neighbours of one kind
        ("S-P B-L E-L", "BIOES", {("P", 0, 0), ("L", 1, 2)}),
        ("B-L I-L O", "BIOES", set()),  # never ended
        ("B-L E-P", "BIOES", set()),
    ],
)
def test_strict_schemes_by_hand(tags: str, scheme: str, expected: set[e.Entity]) -> None:
    assert e.entities_of(tags.split(), scheme) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "scheme"),
    [
        (("O", "B-LOC", "I-LOC"), "IOB2"),
        (("I-LOC", "I-PER", "O"), "IOB1"),
        (("O", "B-LOC", "S-LOC"), "BIOES"),
        (("NOUN", "VERB", "ADJ"), None),
        (("B-LOC", "VERB"), None),
        (("NN", "IN", "O"), None),
        (("E-LOC", "O"), None),
        (("O",), None),
    ],
)
def test_the_scheme_follows_from_the_names(names: tuple[str, ...], scheme: str | None) -> None:
    assert e.detect_scheme(names) == scheme


def test_f1_precision_and_recall_of_sums() -> None:
    scores = np.array([[1, 2, 1, 3, 4], [0, 0, 2, 2, 4]], np.float32)  # 1 found of 2 predicted, 3 true
    labels = np.zeros(2)
    assert e.ENTITY_F1(scores, labels) == pytest.approx(2 / 5)
    assert e.ENTITY_PRECISION(scores, labels) == pytest.approx(1 / 2)
    assert e.ENTITY_RECALL(scores, labels) == pytest.approx(1 / 3)
    assert e.TAG_ACCURACY(scores, labels) == pytest.approx(5 / 8)


def drawn(generator: random.Random, prefixes: str, length: int) -> list[str]:
    return [
        "O" if generator.random() < 0.3 else f"{generator.choice(prefixes)}-{generator.choice('PLO')}"
        for _ in range(length)
    ]


@pytest.mark.parametrize("scheme", [None, *SCHEMES])
def test_f1_equals_seqeval_on_random_tags(scheme: str | None) -> None:
    metrics = pytest.importorskip("seqeval.metrics", reason="seqeval is not installed")
    schemes = pytest.importorskip("seqeval.scheme")
    generator = random.Random(0)
    for _ in range(300):
        prefixes = SCHEMES[scheme] if scheme else generator.choice(["IB", "BIES", "I"])
        gold = [drawn(generator, prefixes, generator.randint(1, 9)) for _ in range(4)]
        predicted = [drawn(generator, prefixes, len(tags)) for tags in gold]
        pairs = [[e.entities_of(tags, scheme) for tags in side] for side in (gold, predicted)]  # type: ignore[arg-type]
        sums = np.sum([e.sentence_counts(right, said) for right, said in zip(*pairs, strict=True)], axis=0)
        if not sums[1:].any():
            continue
        strict = (
            {"mode": "strict", "scheme": getattr(schemes, scheme.replace("BIOES", "IOBES"))} if scheme else {}
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = metrics.f1_score(gold, predicted, **strict)
        assert e.ENTITY_F1.value(sums.astype(float)) == pytest.approx(theirs)

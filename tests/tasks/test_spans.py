"""Answers by hand: normalised as the official script does, chosen from scores, mapped back to characters."""

from __future__ import annotations

import numpy as np
import pytest

from compressbert.tasks import spans as s


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Cat!", "cat"),
        ("an apple a day", "apple day"),
        ("theatre", "theatre"),  # an article is a whole word
        ("U.S. (1858)", "us 1858"),
        ("the", ""),
        ("a-b the-c", "ab thec"),  # punctuation goes before articles
    ],
)
def test_normalised(text: str, expected: str) -> None:
    assert s.normalise(text) == expected


def test_exact_match_and_overlap() -> None:
    assert s.exact("The Cat", "cat.") == 1
    assert s.overlap_f1("the black cat", "cat") == pytest.approx(2 / 3)  # 1 of 2 said, 1 of 1 true
    assert s.overlap_f1("cat cat dog", "cat") == pytest.approx(0.5)  # as bags: 1 of 3 and 1 of 1
    assert s.overlap_f1("dog", "cat") == 0
    assert s.best_against("black cat", ["dog", "cat"], unanswerable=False) == (0, pytest.approx(2 / 3))


@pytest.mark.parametrize(
    ("answer", "truths", "expected"),
    [
        ("", [], (1, 1)),
        ("cat", [], (0, 0)),
        ("", ["cat"], (0, 0)),
        ("the", ["cat"], (0, 0)),
        ("cat", ["the", "cat"], (1, 1)),  # a truth without words does not count
    ],
)
def test_questions_that_may_have_no_answer(
    answer: str, truths: list[str], expected: tuple[float, float]
) -> None:
    assert s.best_against(answer, truths, unanswerable=True) == expected


# [CLS] question [SEP] ab cd ef [SEP]
PLACES = np.array([[-1, -1], [-1, -1], [-1, -1], [0, 2], [3, 5], [6, 8], [-1, -1]], np.int32)


def test_spans_lie_in_the_context_in_order_and_are_short_enough() -> None:
    starts = np.array([9, 9, 9, 1, 3, 0, 9], np.float32)
    ends = np.array([9, 9, 9, 2, 0, 5, 9], np.float32)
    found = s.spans_of(starts, ends, PLACES, n_best=20, longest=2)
    # ab-ef is too long, cd-ab and ef-cd end before they start
    assert found == [s.Span(3, 8, 8), s.Span(6, 8, 5), s.Span(3, 5, 3), s.Span(0, 2, 3), s.Span(0, 5, 1)]
    assert s.spans_of(starts, ends, PLACES, n_best=1, longest=3) == [s.Span(3, 8, 8)]
    assert s.spans_of(starts, ends, np.full_like(PLACES, -1), n_best=5, longest=3) == []


def test_metrics_of_sums() -> None:
    scores = np.array([[1, 1, 1, 1], [0, 0.5, 1, 1], [1, 1, 0, 1], [0, 0, 0, 1]], np.float32)
    values = [
        metric(scores, np.zeros(4))
        for metric in (s.EXACT_MATCH, s.ANSWER_F1, s.ANSWERABLE_F1, s.NO_ANSWER_ACCURACY)
    ]
    assert values == pytest.approx([0.5, 2.5 / 4, 1.5 / 2, 1 / 2])

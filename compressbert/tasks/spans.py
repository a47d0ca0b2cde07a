"""Answers as spans of a context: which one a model's scores choose, and how SQuAD compares answers.

Scoring follows the official scripts of SQuAD 1.1 and 2.0 (Rajpurkar et al. 2016, arXiv 1606.05250; 2018, arXiv
1806.03822); choosing follows Devlin et al. 2019, section 4.2 and 4.3.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compressbert.tasks.metrics import Array, Floats, Metric, ratio

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class Span:
    """A possible answer: characters of the context and its score, start plus end."""

    start: int
    end: int
    score: float


def normalise(text: str) -> str:
    """Lower case, without punctuation, articles and surplus white space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact(answer: str, truth: str) -> float:
    """1 if two answers are the same once normalised, else 0."""
    return float(normalise(answer) == normalise(truth))


def overlap_f1(answer: str, truth: str) -> float:
    """F1 of the words two answers share, as bags; 0 where one has no words."""
    said, right = normalise(answer).split(), normalise(truth).split()
    same = sum((Counter(said) & Counter(right)).values())
    return 2 * same / (len(said) + len(right)) if same else 0.0


def best_against(answer: str, truths: Sequence[str], *, unanswerable: bool) -> tuple[float, float]:
    """Exact match and F1 against the best of several true answers.

    With ``unanswerable`` as the script of 2.0: truths without words do not count, a question without truths
    wants the empty answer, and that agrees with itself alone.
    """
    if unanswerable:
        truths = [truth for truth in truths if normalise(truth)]
        if not truths or not normalise(answer):
            agree = float(not truths and not normalise(answer))
            return agree, agree
    return max(exact(answer, truth) for truth in truths), max(overlap_f1(answer, truth) for truth in truths)


def spans_of(
    starts: NDArray[np.float32],
    ends: NDArray[np.float32],
    places: NDArray[np.int32],
    *,
    n_best: int,
    longest: int,
) -> list[Span]:
    """The best spans of one window, best first.

    Args:
        starts: (tokens,) scores of starting at a token.
        ends: (tokens,) scores of ending there.
        places: (tokens, 2) characters of the context, -1 outside of it.
        n_best: Starts and ends that are tried, and spans returned.
        longest: Longest answer in tokens.
    """
    inside = np.flatnonzero(places[:, 0] >= 0)
    if len(inside) == 0:
        return []
    first, last = (inside[np.argsort(-scores[inside], kind="stable")[:n_best]] for scores in (starts, ends))
    length = last[None, :] - first[:, None]
    row, column = np.nonzero((length >= 0) & (length < longest))
    scores = starts[first[row]].astype(np.float64) + ends[last[column]]
    order = np.argsort(-scores, kind="stable")[:n_best]
    return [
        Span(int(places[first[row[i]], 0]), int(places[last[column[i]], 1]), float(scores[i])) for i in order
    ]


# metrics over scores (N, 4): exact match, F1, whether there is an answer, 1


def _all_exact(scores: Array, _: Array) -> Floats:
    return np.asarray(scores, dtype=np.float64)[:, [0, 3]]


def _all_f1(scores: Array, _: Array) -> Floats:
    return np.asarray(scores, dtype=np.float64)[:, [1, 3]]


def _answerable_f1(scores: Array, _: Array) -> Floats:
    table = np.asarray(scores, dtype=np.float64)
    return np.stack([table[:, 1] * table[:, 2], table[:, 2]], axis=1)


def _unanswerable(scores: Array, _: Array) -> Floats:
    table = np.asarray(scores, dtype=np.float64)
    return np.stack([table[:, 0] * (1 - table[:, 2]), 1 - table[:, 2]], axis=1)


def _share(sums: Floats) -> Floats:
    return ratio(sums[..., 0], sums[..., 1])


EXACT_MATCH = Metric("exact_match", "higher", _all_exact, _share)
ANSWER_F1 = Metric("f1", "higher", _all_f1, _share)
ANSWERABLE_F1 = Metric("f1_answerable", "higher", _answerable_f1, _share)
NO_ANSWER_ACCURACY = Metric("accuracy_unanswerable", "higher", _unanswerable, _share)

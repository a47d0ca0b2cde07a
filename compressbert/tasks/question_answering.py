"""Extractive question answering: where in the context the answer starts and ends."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from compressbert.config.schema import AnswerSettings, TaskKind
from compressbert.data.batches import Batch
from compressbert.data.encode import Encoded
from compressbert.errors import InputError
from compressbert.model.checkpoint import TaskSpec
from compressbert.nn.means import mean
from compressbert.tasks import spans as s
from compressbert.tasks.metrics import Metric
from compressbert.tasks.predictions import Collector, Predictions

NO_ANSWER = "(no answer)"
_IMPOSSIBLE = -1e9  # finite, so that equal padding of teacher and student has no difference


@dataclass(frozen=True)
class QuestionAnswering:
    """Logits (B, S, 2) of starts and ends, labels (B, 2) first and last token; mean of two cross-entropies.

    A sequence is a window of a context; one that does not hold the answer has both labels at its first token.
    Scores are per question, over all its windows.
    """

    settings: AnswerSettings = field(default_factory=AnswerSettings)
    primary_metric: str = "f1"
    label_names: tuple[str, ...] = ()
    num_outputs: int = 2
    kind: ClassVar[TaskKind] = "question-answering"
    per_token: ClassVar[bool] = True

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """F1 and exact match; where some questions have no answer, also F1 of those that have one, and how
        many of those without were left unanswered.
        """
        more = (s.ANSWERABLE_F1, s.NO_ANSWER_ACCURACY) if self.settings.unanswerable else ()
        return (s.ANSWER_F1, s.EXACT_MATCH, *more)

    def spec(self) -> TaskSpec:
        return TaskSpec(self.kind, self.label_names, self.num_outputs)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy over the tokens, mean of start and end and over windows."""
        scores = logits.float()
        ends = [F.cross_entropy(scores[..., i], labels[:, i], reduction="none") for i in (0, 1)]
        return mean(torch.stack(ends))

    def signals(self, logits: Tensor, batch: Batch) -> Tensor:
        """(2B, S): the starts of every window, then the ends, each a distribution over its real tokens."""
        real = batch.inputs["attention_mask"].bool().unsqueeze(-1)
        starts, ends = logits.float().masked_fill(~real, _IMPOSSIBLE).unbind(-1)
        return torch.cat([starts, ends])

    def collector(self, encoded: Encoded) -> Collector:
        return _Questions(self.settings, encoded)


class _Questions:
    """Gathers the best spans of every window, and chooses one answer for each question at the end."""

    def __init__(self, settings: AnswerSettings, encoded: Encoded) -> None:
        rows, places, source = encoded.source_rows, encoded.token_places, encoded.source
        if rows is None or places is None or source is None or "answers" not in source.column_names:
            raise InputError(
                "The rows have no answers, so there is no quality to measure.",
                hint="Name the column of answers: --columns label=NAME, or data.columns.label.",
            )
        self.settings, self.encoded = settings, encoded
        self.rows, self.places, self.source = rows, places, source
        self.spans: dict[int, list[s.Span]] = defaultdict(list)
        self.none: dict[int, float] = {}  # score of no answer: the lowest of a question's windows

    def add(self, batch: Batch, logits: Tensor) -> None:
        found = logits.float().cpu().numpy()  # (B, S, 2)
        for window, scores in zip(batch.examples.tolist(), found, strict=True):
            start, end = self.encoded.offsets[window : window + 2]
            row, length = int(self.rows[window]), int(end - start)
            self.spans[row] += s.spans_of(
                scores[:length, 0],
                scores[:length, 1],
                np.asarray(self.places[start:end]),
                n_best=self.settings.n_best,
                longest=self.settings.max_answer,
            )
            empty = float(scores[0, 0]) + float(scores[0, 1])
            self.none[row] = min(self.none.get(row, empty), empty)

    def finish(self) -> Predictions:
        rows = sorted(self.none)
        if not rows:
            raise InputError("There is no question to score.", hint="Check the data file.")
        scores, margins = np.zeros((len(rows), 4), np.float32), np.zeros(len(rows), np.float32)
        decisions = []
        for index, row in enumerate(rows):
            question: dict[str, Any] = self.source[row]
            answer, margins[index] = self._choose(row, question["text_pair"])
            truths = question["answers"]["text"]
            points = s.best_against(answer, truths, unanswerable=self.settings.unanswerable)
            scores[index] = (*points, bool(truths), 1)
            decisions.append(answer or NO_ANSWER)
        right: NDArray[np.bool_] = scores[:, 0] == 1
        return Predictions(scores, np.zeros(len(rows)), tuple(decisions), margins, right)

    def _choose(self, row: int, context: str) -> tuple[str, float]:
        """The answer, "" for none, and by how much its score exceeds that of the next best one."""
        ordered = sorted(self.spans[row], key=lambda span: -span.score)
        best = ordered[0] if ordered else None
        if self.settings.unanswerable:
            lead = (best.score if best else -np.inf) - self.none[row] + self.settings.no_answer_threshold
            if best is None or lead < 0:
                return "", float(min(-lead, 1e9))
            return context[best.start : best.end], float(lead)
        if best is None:
            return "", 0.0
        others = [span.score for span in ordered if (span.start, span.end) != (best.start, best.end)]
        return context[best.start : best.end], best.score - others[0] if others else 0.0

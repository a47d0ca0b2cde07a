"""Token classification: a tag for each word, read at the word's first piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from compressbert.config.schema import TaggingSettings, TagScheme, TaskKind
from compressbert.data.batches import Batch
from compressbert.data.encode import Encoded
from compressbert.errors import InputError
from compressbert.model.checkpoint import TaskSpec
from compressbert.nn.means import mean_over
from compressbert.tasks import entities as e
from compressbert.tasks.metrics import NOT_SCORED, Metric
from compressbert.tasks.predictions import Collector, Predictions

_MISSED = -1  # the tag of a word that no piece stands for, where no tag means "outside"


@dataclass(frozen=True)
class TokenClassification:
    """Logits (B, S, C), labels (B, S) int64 with -100 where no word begins; cross-entropy."""

    label_names: tuple[str, ...]
    settings: TaggingSettings = field(default_factory=TaggingSettings)
    primary_metric: str = ""  # unset: entity_f1 where tags mark entities, else accuracy
    kind: ClassVar[TaskKind] = "token-classification"
    per_token: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.primary_metric:
            object.__setattr__(self, "primary_metric", "entity_f1" if self.scheme else "accuracy")

    @property
    def num_outputs(self) -> int:
        return len(self.label_names)

    @property
    def scheme(self) -> TagScheme | None:
        """How the tags mark entities; None if each stands alone."""
        if self.settings.scheme == "auto":
            return e.detect_scheme(self.label_names)
        return None if self.settings.scheme == "none" else self.settings.scheme

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """F1, precision and recall of entities, where tags mark any, and the share of words tagged right."""
        entities = (e.ENTITY_F1, e.ENTITY_PRECISION, e.ENTITY_RECALL) if self.scheme else ()
        return (*entities, e.TAG_ACCURACY)

    def spec(self) -> TaskSpec:
        return TaskSpec(self.kind, self.label_names, self.num_outputs)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy, mean over the words of the batch."""
        scored = labels != NOT_SCORED
        total = F.cross_entropy(logits[scored].float(), labels[scored], reduction="sum")
        return mean_over(total, scored.sum())

    def signals(self, logits: Tensor, batch: Batch) -> Tensor:
        """(words, C): the logits at the first pieces of words.

        Raises:
            InputError: The batch does not tell where words begin.
        """
        if batch.words is None:
            raise InputError(
                "The rows are not lists of words, so there is nothing to tag.",
                hint="Set data.task: token-classification.",
            )
        return logits[batch.words >= 0]

    def collector(self, encoded: Encoded) -> Collector:
        return _Sentences(self, encoded)


class _Sentences:
    """Counts entities and words sentence by sentence. Words that were cut off count as tagged outside."""

    def __init__(self, task: TokenClassification, encoded: Encoded) -> None:
        if encoded.token_labels is None or encoded.token_places is None or encoded.source is None:
            raise InputError(
                "The rows have no tags, so there is no quality to measure.",
                hint="Name the column of tags: --columns label=NAME, or data.columns.label.",
            )
        self.task, self.encoded, self.places = task, encoded, encoded.token_places
        self.outside = task.label_names.index("O") if "O" in task.label_names else _MISSED
        self.strict = task.scheme if task.settings.strict else None
        self.gold = _tags_of(encoded)
        self.scores = np.zeros((len(encoded), 5), np.float32)
        self.margins = np.zeros(len(encoded), np.float32)
        self.decisions = [""] * len(encoded)

    def add(self, batch: Batch, logits: Tensor) -> None:
        answers = logits.float().cpu().numpy()  # (B, S, C)
        for row, found in zip(batch.examples.tolist(), answers, strict=True):
            start, end = self.encoded.offsets[row], self.encoded.offsets[row + 1]
            places = np.asarray(self.places[start:end])
            begins = places >= 0
            self._score(row, places[begins], found[: end - start][begins])

    def _score(self, row: int, words: NDArray[np.int32], logits: NDArray[np.float32]) -> None:
        gold = self.gold[row]
        tags = np.full(len(gold), self.outside)
        tags[words] = logits.argmax(axis=1)
        self.scores[row, 3:] = (tags == gold).sum(), len(gold)
        names = [self._name(tag) for tag in tags]
        if self.task.scheme:
            right = e.entities_of([self._name(tag) for tag in gold], self.strict)
            self.scores[row, :3] = e.sentence_counts(right, e.entities_of(names, self.strict))
        self.decisions[row] = " ".join(names)
        best = np.sort(logits, axis=1)[:, -2:]
        self.margins[row] = (best[:, -1] - best[:, 0]).min() if len(best) else 0.0

    def _name(self, tag: int) -> str:
        return "O" if tag == _MISSED else self.task.label_names[tag]

    def finish(self) -> Predictions:
        if not self.scores[:, 4].any():
            raise InputError("There is no word to score.", hint="Check the data file.")
        labels, right = np.zeros(len(self.scores)), self.scores[:, 3] == self.scores[:, 4]
        return Predictions(self.scores, labels, tuple(self.decisions), self.margins, right)


def _tags_of(encoded: Encoded) -> Sequence[NDArray[np.int64]]:
    """The tag ids of every word of each example, those beyond the cut included."""
    source: Any = encoded.source
    column = source.with_format("arrow")[:]["label"].combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    lengths = [0 if length is None else length for length in column.value_lengths().to_pylist()]
    rows = np.split(flat, np.cumsum(lengths)[:-1])
    if encoded.source_rows is None:
        return rows
    return [rows[row] for row in encoded.source_rows]

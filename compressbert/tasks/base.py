"""What a task is: the kind of head, the loss that trains it and the metrics that score it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, TypeAlias

from torch import Tensor

from compressbert.config.problems import suggestion
from compressbert.config.schema import DataConfig, Settings, TaskKind
from compressbert.data.batches import Batch
from compressbert.data.encode import Encoded
from compressbert.errors import ConfigError
from compressbert.model.checkpoint import TaskSpec
from compressbert.tasks.masked_lm import MaskedLM
from compressbert.tasks.metrics import Metric
from compressbert.tasks.predictions import Collector
from compressbert.tasks.question_answering import QuestionAnswering
from compressbert.tasks.sentence_embedding import SentenceEmbedding
from compressbert.tasks.sequence_classification import MultiLabel, Regression, SequenceClassification
from compressbert.tasks.token_classification import TokenClassification


class Task(Protocol):
    """What is learned and scored. "Logits" are a model's main output, whatever its shape
    (`model.handle.Model`).
    """

    @property
    def kind(self) -> TaskKind:
        """The kind as it stands in settings."""

    @property
    def settings(self) -> Settings | None:
        """What only this kind of task has to be told; decides how rows become token ids, too."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the outputs in the order of their ids; empty where outputs have no names."""

    @property
    def num_outputs(self) -> int:
        """Width of the logits; 0 where it is the model's own: its vocabulary, its hidden width."""

    @property
    def per_token(self) -> bool:
        """Whether the logits hold a row per token, (B, S, C), and not one per text, (B, C)."""

    @property
    def primary_metric(self) -> str:
        """Name of the metric that gates, selection and headlines use."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Every metric that is reported."""

    def spec(self) -> TaskSpec:
        """What a model needs to know to get the right head."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The training loss, mean over examples (or words), as a scalar."""

    def signals(self, logits: Tensor, batch: Batch) -> Tensor:
        """(N, C): the rows on which a student is compared with its teacher, each one distribution."""

    def collector(self, encoded: Encoded) -> Collector:
        """What gathers a model's outputs on these rows for the metrics."""


_AnyTask: TypeAlias = (
    SequenceClassification
    | Regression
    | MultiLabel
    | TokenClassification
    | QuestionAnswering
    | SentenceEmbedding
    | MaskedLM
)


def task_for(config: DataConfig, label_names: Sequence[str]) -> Task:
    """The task a data section asks for, with the metric it is judged by.

    Args:
        config: The data section; ``task`` and that kind's own settings, ``metric`` and ``hub`` are read.
        label_names: Names in the order of the ids (`data.read.label_names_of`); ignored where the kind has
            none.

    Raises:
        ConfigError: A classification without at least two names, a multi-label task without any, or a metric
            that the task does not have.
    """
    task = _task(config, tuple(label_names))
    metric = config.metric or _glue_metric(config.hub)
    if metric is None or metric == task.primary_metric:
        return task
    known = [found.name for found in task.metrics]
    if metric not in known:
        raise ConfigError(
            f"data.metric: a {task.kind} task has no metric {metric!r}{suggestion(metric, known)}",
            hint=f"Its metrics: {', '.join(known)}.",
        )
    return replace(task, primary_metric=metric)


def _task(config: DataConfig, names: tuple[str, ...]) -> _AnyTask:
    if config.task == "regression":
        return Regression()
    if config.task == "masked-lm":
        return MaskedLM(config.masking)
    if config.task == "question-answering":
        return QuestionAnswering(config.answers)
    if config.task == "sentence-embedding":
        return SentenceEmbedding(config.embedding)
    least = 1 if config.task == "multi-label" else 2
    if len(names) < least:
        raise ConfigError(
            f"task {config.task}: expected at least {least} label name(s), found {len(names)}: {list(names)}",
            hint="Check the label column of the data, or list the names under data.labels.",
        )
    if config.task == "token-classification":
        return TokenClassification(names, config.tagging)
    return SequenceClassification(names) if config.task == "sequence-classification" else MultiLabel(names)


# What GLUE scores a set by, where that is not the task's own default (Wang et al. 2019, table 1).
_GLUE = {"cola": "matthews", "mrpc": "f1", "qqp": "f1"}


def _glue_metric(hub: str | None) -> str | None:
    parts = hub.split("/") if hub else []
    return _GLUE.get(parts[-1]) if len(parts) > 1 and parts[-2] == "glue" else None


def primary(task: Task) -> Metric:
    """The metric the task is judged by."""
    return next(metric for metric in task.metrics if metric.name == task.primary_metric)

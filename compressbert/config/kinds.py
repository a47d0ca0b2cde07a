"""The kinds of task, and the settings that only one kind of task has."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

TaskKind = Literal[
    "sequence-classification",
    "regression",
    "multi-label",
    "token-classification",
    "question-answering",
    "sentence-embedding",
    "masked-lm",
]
TagScheme = Literal["IOB1", "IOB2", "BIOES"]
PoolingMode = Literal["mean", "cls"]
Positive = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Base of all settings: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class TaggingSettings(Settings):
    """Token classification: how tags become entities."""

    scheme: Literal["auto", "none", "IOB1", "IOB2", "BIOES"] = Field(
        "auto",
        description="How tags mark entities; none: each tag stands alone (parts of speech). auto: as the "
        "names say, IOB2 where they leave it open.",
    )
    strict: bool = Field(
        False,
        description="Count only entities whose tags are well formed by the scheme. Else those of CoNLL's own "
        "script: an I- after O begins one too.",
    )


class AnswerSettings(Settings):
    """Question answering: how contexts are split and answers chosen."""

    unanswerable: bool = Field(
        False, description="Some questions have no answer in their context (SQuAD 2.0)."
    )
    stride: Positive | None = Field(
        None,
        description="Word pieces that neighbouring windows of a long context share. Unset: a third of "
        "max_length.",
    )
    max_question: Positive = Field(64, description="Longest question in word pieces; longer ones are cut.")
    max_answer: Positive = Field(30, description="Longest answer in word pieces.")
    n_best: Positive = Field(20, description="Starts and ends that are tried in each window.")
    no_answer_threshold: float = Field(
        0.0,
        description="A question counts as unanswerable if the score of no answer exceeds that of the best "
        "answer by more than this.",
    )


class EmbeddingSettings(Settings):
    """Sentence embedding: how token states become one vector, and what scores mean."""

    pooling: PoolingMode | None = Field(
        None, description="mean of the tokens or the first token. Unset: as the model's folder says."
    )
    normalize: bool | None = Field(
        None, description="Scale vectors to length 1. Unset: as the model's folder says, else true."
    )
    scale: Annotated[float, Field(gt=0)] = Field(
        1.0,
        description="The score that means the same: 5 for scores from 0 to 5. A cosine of 1 stands for it.",
    )


class UnlabelledSettings(Settings):
    """Texts without labels, for methods that learn from a teacher's answers alone."""

    files: tuple[str, ...] = Field(
        (),
        description="One file for each language or source: txt (a text a line), csv, jsonl or parquet, also .gz.",
    )
    exponent: Annotated[float, Field(ge=0, le=1)] = Field(
        0.7,
        description="A file of n rows has a share of n^exponent. 1: as large as it is; 0: all files alike.",
    )
    rows: Positive | None = Field(
        None, description="How many rows are drawn in all. Unset: as many as the files have."
    )


class MaskingSettings(Settings):
    """Masked language modelling: which words are hidden."""

    unit: Literal["piece", "word", "span"] = Field(
        "piece",
        description="What is drawn: single word pieces, whole words, or spans of whole words (SpanBERT).",
    )
    probability: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.15, description="Share of the word pieces that is predicted."
    )
    span_chance: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.2, description="span: the length in words is geometric with this chance of ending."
    )
    span_longest: Positive = Field(10, description="span: longest span in words.")

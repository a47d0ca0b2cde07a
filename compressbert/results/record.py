"""The record of one step: what `result.json` holds. Its JSON Schema ships with the package.

Units are in the names. A quantity that was not measured is None or absent, never a guess.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1


class Record(BaseModel):
    """Base of all records: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Parent(Record):
    """The folder a step read and what it held then."""

    folder: str
    sha256: str


class ModelFacts(Record):
    """Size of a model, by closed count of its tensors."""

    parameters: int = Field(description="Distinct parameters of the whole model, the head included.")
    nonzero_parameters: int
    encoder_parameters: int = Field(
        description="Parameters of the layers alone, without embeddings and head."
    )
    bytes_on_disk: int = Field(description="Bytes of the files needed to run, tokenizer excluded.")
    bytes_by_component: dict[str, int] = Field(description="embeddings, attention, ffn, head, rest.")
    layers: int
    heads_per_layer: tuple[int, ...]
    ffn_per_layer: tuple[int, ...]
    hidden: int
    macs_per_token: int = Field(
        description="Multiply-accumulates per token at length 128, from the actual shapes."
    )


class Interval(Record):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


class MetricResult(Interval):
    """A quality metric on the whole validation split."""

    direction: Literal["higher", "lower"] = "higher"
    examples: int


class LatencyCell(Record):
    """Latency of one shape. ``length`` None means the data's own lengths."""

    runtime: str
    threads: int
    batch: int
    length: int | None
    p50_ms: float
    p95_ms: float
    low: float = Field(description="95 % interval of the median, in milliseconds.")
    high: float
    runs: int


class MemoryFacts(Record):
    """Memory of a worker process that loads and runs the artefact."""

    peak_rss_mb: float


class Environment(Record):
    """Where the step ran."""

    versions: dict[str, str]
    cpu: str
    isa: tuple[str, ...]
    cores: int


class StepResult(Record):
    """Content of `result.json`."""

    schema_version: int = SCHEMA_VERSION
    step: str
    command: str
    config: dict[str, Any]
    seed: int
    parent: Parent | None = None
    model: ModelFacts | None = None
    quality: dict[str, MetricResult] = Field(default_factory=dict)
    primary_metric: str | None = None
    latency: tuple[LatencyCell, ...] = ()
    memory: MemoryFacts | None = None
    training: tuple[dict[str, float], ...] = Field((), description="Logged steps: step, loss and its parts.")
    notes: tuple[str, ...] = Field((), description="What the step said that a reader should know.")
    environment: Environment
    seconds: float
    files: dict[str, str] = Field(description="Path in the folder to sha256.")


class ReportGate(Record):
    """A gate's verdict."""

    name: str
    limit: float
    value: float | None
    low: float | None
    high: float | None
    verdict: Literal["pass", "fail", "cannot-tell"]
    reason: str = ""


class ReportRow(Record):
    """One row of a report: a step against the baseline."""

    name: str
    step: str
    method: str | None = None
    folder: str | None = None
    quality: dict[str, MetricResult] = Field(default_factory=dict)
    primary_metric: str | None = None
    retained: Interval | None = None
    quality_drop: Interval | None = None
    flips: int | None = None
    mcnemar_p: float | None = None
    compression: float | None = None
    compression_encoder: float | None = None
    speedup: Interval | None = None
    latency: tuple[LatencyCell, ...] = ()
    speedup_by_cell: dict[str, Interval] = Field(default_factory=dict, description="Cell name to ratio.")
    memory: MemoryFacts | None = None
    parameters: int | None = None
    bytes_on_disk: int | None = None
    bytes_by_component: dict[str, int] = Field(default_factory=dict)
    heads_per_layer: tuple[int, ...] = ()
    ffn_per_layer: tuple[int, ...] = ()
    macs_per_token: int | None = None
    survey: dict[str, Any] | None = Field(
        None, description="The survey's own figures for this method, labelled theirs."
    )
    seconds: float | None = None


class Report(Record):
    """Content of `report.json`."""

    schema_version: int = SCHEMA_VERSION
    title: str
    baseline: str
    rows: tuple[ReportRow, ...]
    gates: tuple[ReportGate, ...] = ()
    notes: tuple[str, ...] = Field((), description="What a reader of the figures must know.")
    environment: Environment
    config: dict[str, Any] = Field(default_factory=dict)

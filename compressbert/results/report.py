"""The record of a report: what `report.json` holds. Its JSON Schema ships with the package."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from compressbert.results.record import (
    SCHEMA_VERSION,
    ColdStart,
    Conditions,
    Environment,
    Flip,
    Interval,
    LatencyCell,
    MemoryFacts,
    MetricResult,
    NonInferiority,
    Portability,
    Record,
    SeedSummary,
    Slice,
)


class Need(Record):
    """What a gate that cannot tell lacks."""

    what: Literal["rows", "rounds"]
    now: int | None = Field(description="How many there are; None where that is not known.")
    about: int | None = Field(description="How many would tell, roughly; None where no number would.")


class ReportGate(Record):
    """A gate's verdict."""

    name: str
    limit: float
    value: float | None
    low: float | None
    high: float | None
    verdict: Literal["pass", "fail", "cannot-tell"]
    reason: str = ""
    need: Need | None = Field(None, description="For cannot-tell: what would tell, where more data would.")


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
    noninferiority: NonInferiority | None = None
    slices: tuple[Slice, ...] = ()
    worst_flips: tuple[Flip, ...] = Field((), description="At most twenty, the surest first.")
    seeds: SeedSummary | None = None
    training: tuple[dict[str, float], ...] = Field((), description="Logged steps of the step's training.")
    parent: str | None = Field(None, description="Name of the row it was made from.")
    compression: float | None = None
    compression_encoder: float | None = None
    speedup: Interval | None = None
    latency: tuple[LatencyCell, ...] = ()
    speedup_by_cell: dict[str, Interval] = Field(default_factory=dict, description="Cell name to ratio.")
    memory: MemoryFacts | None = None
    cold_start: ColdStart | None = None
    tokenizer_ms: float | None = Field(None, description="Median time to tokenize one of the data's rows.")
    parameters: int | None = None
    nonzero_parameters: int | None = None
    encoder_parameters: int | None = None
    bytes_on_disk: int | None = None
    bytes_by_component: dict[str, int] = Field(default_factory=dict)
    heads_per_layer: tuple[int, ...] = ()
    ffn_per_layer: tuple[int, ...] = ()
    macs_per_token: int | None = None
    portability: Portability | None = Field(None, description="Of an int8 file; absent for others.")
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
    conditions: Conditions | None = None
    environment: Environment
    config: dict[str, Any] = Field(default_factory=dict)

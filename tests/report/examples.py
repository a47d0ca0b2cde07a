"""A realistic report, and its variations, for the tests of every rendering."""

from __future__ import annotations

from typing import Any

from compressbert.results.record import (
    Environment,
    Interval,
    LatencyCell,
    MemoryFacts,
    MetricResult,
    Report,
    ReportGate,
    ReportRow,
)

ENVIRONMENT = Environment(
    versions={"torch": "2.13.0", "onnxruntime": "1.32.0"}, cpu="A CPU", isa=("avx2", "vnni"), cores=2
)


def around(value: float, share: float = 0.03) -> Interval:
    return Interval(value=value, low=value * (1 - share), high=value * (1 + share))


def cell(length: int | None, p50: float, batch: int = 1) -> LatencyCell:
    return LatencyCell(
        runtime="onnxruntime",
        threads=1,
        batch=batch,
        length=length,
        p50_ms=p50,
        p95_ms=p50 * 1.3,
        low=p50 * 0.98,
        high=p50 * 1.03,
        runs=600,
    )


def row(
    name: str, *, accuracy: float = 0.89, p50: float = 4.0, size: int = 91_000_000, **more: Any
) -> ReportRow:
    settings: dict[str, Any] = {
        "step": name,
        "quality": {
            "accuracy": MetricResult(value=accuracy, low=accuracy - 0.02, high=accuracy + 0.02, examples=872)
        },
        "primary_metric": "accuracy",
        "compression": 91e6 / size,
        "compression_encoder": 91e6 / size,
        "latency": (cell(32, p50 * 1.1), cell(128, p50 * 30, batch=8), cell(None, p50)),
        "memory": MemoryFacts(peak_rss_mb=150.0),
        "parameters": 22_700_000,
        "bytes_on_disk": size,
        "bytes_by_component": {
            "embeddings": size // 2,
            "attention": size // 6,
            "ffn": size // 3,
            "head": 0,
            "rest": size - size // 2 - size // 6 - size // 3,
        },
        "heads_per_layer": (12, 12, 6),
        "ffn_per_layer": (1536, 1536, 700),
        "macs_per_token": 10_000_000,
        "seconds": 12.0,
    }
    return ReportRow(name=name, **(settings | more))


def against_baseline(speed: float, **more: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "retained": around(0.985, 0.01),
        "quality_drop": Interval(value=0.013, low=0.004, high=0.022),
        "flips": 61,
        "mcnemar_p": 0.0421,
        "speedup": around(speed),
        "speedup_by_cell": {"1x32": around(speed * 0.9), "8x128": around(speed * 0.8), "data": around(speed)},
    }
    return settings | more


def example(**changes: Any) -> Report:
    rows = (
        row("finetune"),
        row(
            "distill",
            accuracy=0.88,
            p50=2.0,
            size=70_000_000,
            method="distilbert",
            survey={"compression": 1.5, "retained": 90, "speedup": 1.6},
            **against_baseline(2.0),
        ),
        row("export", accuracy=0.877, p50=0.5, size=18_300_000, **against_baseline(8.12)),
    )
    gates = (
        ReportGate(
            name="max_quality_drop",
            limit=0.01,
            value=0.013,
            low=0.004,
            high=0.022,
            verdict="cannot-tell",
            reason="why a",
        ),
        ReportGate(
            name="min_speedup", limit=4, value=8.12, low=7.88, high=8.36, verdict="pass", reason="why b"
        ),
        ReportGate(
            name="max_megabytes", limit=18, value=18.3, low=None, high=None, verdict="fail", reason="why c"
        ),
    )
    settings: dict[str, Any] = {
        "title": "SST-2 chain",
        "baseline": "finetune",
        "rows": rows,
        "gates": gates,
        "environment": ENVIRONMENT,
        "config": {"name": "sst2", "seed": 7},
    }
    return Report(**(settings | changes))

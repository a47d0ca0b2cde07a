"""A realistic report, and its variations, for the tests of every rendering."""

from __future__ import annotations

from typing import Any

from compressbert.results.record import (
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
    SeedSummary,
    Slice,
)
from compressbert.results.report import Report, ReportGate, ReportRow

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
        "memory": MemoryFacts(peak_rss_mb=150.0, load_rss_mb=121.0, run_rss_mb=150.0),
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
            survey={
                "row": "DistilBERT",
                "compression": 1.5,
                "retained": 90,
                "speedup": 1.6,
                "evaluated_on": "GLUE",
                "remark": "Theirs: 97 %.",
            },
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


def training(stages: int = 1, points: int = 50) -> tuple[dict[str, float], ...]:
    def point(step: int) -> dict[str, float]:
        soft, task = 1.7 / (1 + step / 40), 0.7 / (1 + step / 200)
        return {"soft": soft, "task": task, "step": step, "loss": soft + task, "learning_rate": 1e-4}

    return tuple(point(20 * number) for _ in range(stages) for number in range(1, points + 1))


def flip(number: int, text: str = "a thoughtful, moving film that never quite finds its feet") -> Flip:
    margins = {"baseline_margin": 4.1 - number / 9, "candidate_margin": 2.3 - number / 11}
    return Flip(
        row=17 * number, text=text, label="positive", baseline="positive", candidate="negative", **margins
    )


def part(name: str, by: str, drop: float, examples: int, *, worse: bool = False) -> Slice:
    interval = Interval(value=drop, low=drop - 0.6 / examples**0.5, high=drop + 0.6 / examples**0.5)
    return Slice(
        name=name, by=by, examples=examples, baseline=0.9, candidate=0.9 - drop, drop=interval,
        p=0.0004 if worse else 0.4, worse=worse,
    )  # fmt: skip


SLICES = (
    part("label=negative", "label", 0.004, 428),
    part("label=positive", "label", 0.021, 444),
    part("length 1-8", "length", 0.006, 120),
    part("length 9-16", "length", 0.009, 301),
    part("length 17-32", "length", 0.012, 322),
    part("length 33-64", "length", 0.078, 129, worse=True),
)


def full() -> Report:
    """A chain of five steps in which everything there is was measured."""
    cold = {"cold_start": ColdStart(load_ms=41.2, first_ms=6.3, runs=5), "tokenizer_ms": 0.041}
    counts = {"nonzero_parameters": 21_900_000, "encoder_parameters": 10_600_000}
    claims = {"noninferiority": NonInferiority(margin=0.01, answer="cannot-tell"), "slices": SLICES}
    seeds = SeedSummary(values=(0.874, 0.879, 0.883), mean=0.8787, sd=0.0045, interval=around(0.8787, 0.02))
    half = {"heads_per_layer": (12, 12, 6), "ffn_per_layer": (1382, 1382, 1382)}
    steps = (
        ("distill", "distilbert", 0.885, 2.0, 70e6, {"parent": "finetune", "training": training(), "seeds": seeds}),
        ("prune", "width", 0.879, 1.7, 66e6, {"parent": "distill", "training": training(2), **half}),
        ("quantize", "dynamic_int8", 0.881, 0.53, 17.4e6, {"parent": "prune", **half}),
        ("export", None, 0.8775, 0.5, 17.5e6, {"parent": "quantize", **half}),
    )  # fmt: skip
    rows = [row("finetune", training=training(points=30), **cold, **counts)]
    for name, method, accuracy, p50, size, more in steps:
        against = against_baseline(
            4.0 / p50, quality_drop=Interval(value=0.89 - accuracy, low=0.88 - accuracy, high=0.9 - accuracy)
        )
        survey = (
            {
                "survey": {
                    "row": "DistilBERT",
                    "compression": 1.5,
                    "retained": 90,
                    "speedup": 1.6,
                    "evaluated_on": "all GLUE tasks, SQuAD",
                    "remark": "The authors report 97 % retained.",
                }
            }
            if method == "distilbert"
            else {}
        )
        flips = tuple(map(flip, range(20)))
        rows.append(
            row(name, method=method, accuracy=accuracy, p50=p50, size=int(size), worst_flips=flips,
                **cold, **counts, **claims, **more, **survey, **against)
        )  # fmt: skip
    without = {"accuracy": MetricResult(value=0.861, low=0.838, high=0.884, examples=872)}
    portable = Portability(
        valid_on="vnni", pairs=5_308_416, saturating_pairs=1_204, quality_without_vnni=without
    )
    rows[-1] = rows[-1].model_copy(update={"portability": portable})
    conditions = Conditions(
        threads=1, affinity=(0,), rounds=24, seconds=61.0, half_width=0.012, load_before=0.31, load_after=1.12,
        other_cores=0.04,
    )  # fmt: skip
    return example(rows=tuple(rows), conditions=conditions)


def sweep(count: int = 200) -> Report:
    """``count`` models made from one teacher, each with everything that can be measured."""
    base, *_, last = full().rows
    variants = []
    for number in range(count - 1):
        size = 91_000_000 // (1 + number % 8)
        p50 = 4.0 / (1 + (number * 37 % 101) / 14)
        accuracy = 0.9 - 0.02 * (4.0 / p50 - 1) / 7 - (number * 53 % 97) / 1500
        fresh = row(
            f"keep-{number:03d}", accuracy=accuracy, p50=p50, size=size, **against_baseline(4.0 / p50)
        )
        changes = {
            name: getattr(fresh, name)
            for name in (
                "name",
                "step",
                "quality",
                "latency",
                "bytes_on_disk",
                "bytes_by_component",
                "speedup",
                "speedup_by_cell",
                "compression",
            )
        }
        changes |= {"parent": base.name, "training": training(), "method": "width"}
        variants.append(last.model_copy(update=changes))
    return example(title="A sweep", rows=(base, *variants), gates=())

"""Which runtime wins is said only where the intervals of the medians lie apart."""

from __future__ import annotations

from compressbert.report.runtimes import sentence, winners
from compressbert.results.measured import CandidateTimings
from compressbert.results.record import LatencyCell, MemoryFacts


def timed(name: str, runtime: str, *cells: tuple[int, int | None, float]) -> CandidateTimings:
    """Cells as (batch, length, median); every interval is the median ± 10 %."""
    made = [
        LatencyCell(
            runtime=runtime, threads=1, batch=batch, length=length, p50_ms=p50, p95_ms=p50,
            low=0.9 * p50, high=1.1 * p50, runs=9,
        )
        for batch, length, p50 in cells
    ]  # fmt: skip
    memory = MemoryFacts(peak_rss_mb=1.0)
    return CandidateTimings(
        name=name, path=name, runtime=runtime, threads=1, load_ms=1.0, cells=tuple(made),
        speedup_by_cell={}, memory=memory,
    )  # fmt: skip


def test_the_best_model_of_each_runtime_is_compared() -> None:
    rows = [
        timed("int8", "onnxruntime", (1, 32, 1.0), (8, 128, 50.0), (1, 128, 7.0), (1, None, 1.0)),
        timed("fp32", "onnxruntime", (1, 32, 7.0), (8, 128, 160.0), (1, 128, 20.0), (1, None, 6.0)),
        timed("ir", "openvino", (1, 32, 1.5), (8, 128, 40.0), (1, 128, 7.1), (1, None, 2.0)),
    ]
    found = winners(rows)
    assert [(w.name, w.other_name, round(w.ratio, 2), w.clear) for w in found] == [
        ("int8", "ir", 1.5, True),
        ("ir", "int8", 1.25, True),
        ("int8", "ir", 1.01, False),
        ("int8", "ir", 2.0, True),
    ]
    assert sentence(found) == (
        "Between runtimes, the best model of each: onnxruntime wins at 1 × 32 (1.50×), data's lengths (2.00×); "
        "openvino wins at 8 × 128 (1.25×); level at 1 × 128."
    )


def test_one_runtime_alone_wins_nothing() -> None:
    found = winners([timed("a", "onnxruntime", (1, 32, 1.0)), timed("b", "onnxruntime", (1, 32, 2.0))])
    assert found == []
    assert sentence(found) == ""

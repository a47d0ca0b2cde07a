"""`benchmark`: latency and memory of several artefacts, interleaved, the first one being the baseline."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compressbert.config.schema import BenchmarkConfig
from compressbert.errors import InputError
from compressbert.measure.latency import benchmark as time_candidates
from compressbert.measure.size import bytes_on_disk
from compressbert.pipeline.steps.inputs import own_lengths, validation_lengths, validation_texts
from compressbert.report.runtimes import winners
from compressbert.results.environment import environment, fingerprint
from compressbert.results.measured import CandidateTimings
from compressbert.results.record import SCHEMA_VERSION, Record
from compressbert.results.store import write_json_atomic


@dataclass(frozen=True)
class BenchmarkResult:
    """Timings of every candidate in the order given; each but the first has its speed-up over the first."""

    rows: list[CandidateTimings]

    def to_json(self) -> dict[str, Any]:
        """Return the document that `benchmark --json` prints."""
        return {
            "schema_version": SCHEMA_VERSION,
            "environment": environment().model_dump(mode="json"),
            "machine": fingerprint(environment()),
            "conditions": _dumped(self.rows[0].conditions),
            "rows": [self._row(row) for row in self.rows],
            "fastest": [asdict(winner) for winner in winners(self.rows)],
        }

    def _row(self, row: CandidateTimings) -> dict[str, Any]:
        return {
            "name": row.name,
            "path": row.path,
            "runtime": row.runtime,
            "bytes_on_disk": bytes_on_disk(Path(row.path)),
            "latency": [cell.model_dump(mode="json") for cell in row.cells],
            "memory": row.memory.model_dump(mode="json"),
            "load_ms": row.load_ms,
            "cold_start": _dumped(row.cold_start),
            "tokenizer_ms": row.tokenizer_ms,
            "other_cores": row.other_cores,
            "speedup": _dumped(row.speedup),
            "speedup_by_cell": {name: _dumped(ratio) for name, ratio in row.speedup_by_cell.items()},
        }


def _dumped(record: Record | None) -> dict[str, Any] | None:
    return None if record is None else record.model_dump(mode="json")


def benchmark(config: BenchmarkConfig, *, overwrite: bool = False) -> BenchmarkResult:
    """Time ``config.models`` against the first of them.

    Args:
        config: Models (folders or .onnx files), shapes and rounds; with data, its own lengths are timed too.
        overwrite: Replace an existing output file.

    Raises:
        InputError: A model is missing or cannot be opened.
        WorkError: A worker process died.
    """
    paths = [Path(model) for model in config.models]
    for path in paths:
        if not path.exists():
            raise InputError(f"no model at {path}", hint="Give model folders, export folders or .onnx files.")
    lengths = validation_lengths(config.data, paths[0]) if config.data is not None else None
    texts = validation_texts(config.data) if config.data is not None else []
    named = _named(paths)
    own = own_lengths(config.data, named) if config.data is not None else {}
    timings = time_candidates(
        named, config.benchmark, lengths, own_lengths=own, texts=texts, seed=config.seed
    )
    result = BenchmarkResult(timings)
    if config.output is not None:
        folder = Path(config.output)
        folder.mkdir(parents=True, exist_ok=True)
        write_json_atomic(folder / "benchmark.json", result.to_json())
    return result


def _named(paths: list[Path]) -> dict[str, Path]:
    """Return the shortest name that tells each path from the others; a path given twice is numbered."""
    names: dict[str, Path] = {}
    for path in paths:
        short = path.parent.name + "/" + path.name if path.suffix == ".onnx" else path.name
        taken = [other for other in paths if other != path and other.name == path.name]
        name = str(path) if taken or not short else short
        number = 2
        unique = name
        while unique in names:
            unique = f"{name} ({number})"
            number += 1
        names[unique] = path
    return names

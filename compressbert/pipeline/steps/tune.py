"""Tuning of an export: every form of the graph is written, timed on this machine, and the fastest is kept.

Then the threads of its session are tuned, which no file carries (`tune_threads.py`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from compressbert.config.schema import BenchmarkSettings, ExportConfig
from compressbert.errors import ConfigError
from compressbert.export.form import Form, candidates
from compressbert.export.variants import Formats
from compressbert.export.write import export_onnx, is_direct
from compressbert.measure.latency import benchmark
from compressbert.model.handle import Model
from compressbert.pipeline.steps.tune_threads import tune_threads
from compressbert.progress import note
from compressbert.results.measured import CandidateTimings
from compressbert.results.record import Interval, TimedForm, Tuning

CELLS = ((1, 16), (1, 128), (8, 128))
DATA_BATCH = 32
ROUNDS = 4
WORTH = 1.02  # a form must be faster by so much, in the mean over shapes, to replace the default


def choose_form(
    model: Model, settings: ExportConfig, formats: Formats, lengths: Sequence[int] | None
) -> tuple[Form, Tuning | None]:
    """The form to write, and the timings it was chosen by; the default without timings unless ``tune`` is set.

    Args:
        model: To be exported.
        settings: Where both precisions are written, the int8 file is timed.
        formats: Number formats of single modules.
        lengths: Token counts of the data's rows, for a padded batch among the shapes; None without data.

    Raises:
        ConfigError: The graph cannot be chosen: another format, another exporter, or no lossless speed-ups.
    """
    if not settings.tune:
        return Form(), None
    if settings.format != "onnx" or not settings.optimize or not is_direct(model) or model.is_own:
        raise ConfigError(
            "export.tune chooses among ONNX graphs of transformers, written directly from the weights, with "
            "optimize: true.",
            hint="Leave export.tune out.",
        )
    forms = candidates()
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for form in forms:
            name = _name(form)
            written = export_onnx(model, Path(folder) / name, settings, formats=formats, form=form)
            files[name] = list(written.files.values())[-1]
        settled = BenchmarkSettings(rounds=ROUNDS, cells=CELLS, sentences=16, data_batch=DATA_BATCH)
        timings = benchmark(files, settled, lengths)
        timed = [_timed(form, timing) for form, timing in zip(forms, timings, strict=True)]
        best = max(range(len(forms)), key=lambda index: timed[index].speedup)
        chosen = forms[best] if timed[best].speedup > WORTH else forms[0]
        note(f"Fastest form of the graph on this machine: {_name(chosen)}.")
        threads = tune_threads(files[_name(chosen)], settled, lengths)
    tuning = Tuning(chosen=asdict(chosen), forms=tuple(timed), conditions=timings[0].conditions)
    if threads is not None:
        found = {"session": threads.session, "session_by_cell": threads.by_cell, "sessions": threads.timed}
        tuning = tuning.model_copy(update=found | {"session_conditions": threads.conditions})
    return chosen, tuning


def _name(form: Form) -> str:
    return ", ".join(f"{name} {value}" for name, value in form.changes().items()) or "default"


def _timed(form: Form, timing: CandidateTimings) -> TimedForm:
    ratios: dict[str, Interval] = timing.speedup_by_cell
    speedup = float(np.exp(np.mean([np.log(ratio.value) for ratio in ratios.values()]))) if ratios else 1.0
    return TimedForm(form=asdict(form), speedup=speedup, speedup_by_cell=ratios, latency=timing.cells)

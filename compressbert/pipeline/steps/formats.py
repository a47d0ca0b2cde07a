"""What the data decides about the int8 file of an export: ranges of activations, and what stays fp32."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from compressbert.config.schema import DataConfig, ExportConfig
from compressbert.errors import ConfigError
from compressbert.export.calibration import calibrate
from compressbert.export.form import Form
from compressbert.export.save import save
from compressbert.export.sensitivity import rank, worst_to_keep
from compressbert.export.variants import Formats, divisors_for, int8_products, variant
from compressbert.export.write import build
from compressbert.measure.quality import evaluate
from compressbert.measure.runners import open_runner
from compressbert.model.handle import Model
from compressbert.pipeline.steps.calibration import calibration_batches
from compressbert.pipeline.steps.inputs import Inputs
from compressbert.progress import note
from compressbert.results.record import ModuleSensitivity, Sensitivity
from compressbert.train.predict import score

_RANKING_ROWS = 128  # what single modules do to the output shows on few rows


def calibrated(model: Model, settings: ExportConfig, data: DataConfig | None) -> Formats:
    """The ranges of activations where the settings ask for static ones.

    Raises:
        ConfigError: They ask for it, or for a ranking, where no int8 ONNX file is written from fp32 weights; or
            there is no data.
    """
    static = settings.activations == "static"
    if not (static or _ranks(settings)):
        return Formats()
    _refuse(model, settings, static=static)
    if not static:
        return Formats()
    batches = calibration_batches(data, model.tokenizer, settings.calibration)
    return Formats(ranges=calibrate(model, int8_products(model), batches, percentile=settings.percentile))


def fall_back(
    model: Model,
    settings: ExportConfig,
    data: DataConfig | None,
    inputs: Inputs | None,
    *,
    formats: Formats,
    form: Form,
) -> tuple[Formats, Sensitivity | None]:
    """Rank the modules and keep the worst at fp32, as far as the settings ask for it.

    Args:
        model: To be exported.
        settings: With ``sensitivity`` or ``max_quality_drop``, or nothing is done.
        data: Its training rows rank the modules.
        inputs: Its validation rows are those that the limit is about.
        formats: What is decided already.
        form: How the graph will be written; a file of that form is what the limit is held against.

    Raises:
        ConfigError: There are no rows to rank or to judge by.
    """
    if not _ranks(settings):
        return formats, None
    limit = settings.max_quality_drop
    trial = None if limit is None else _Trial(model, settings, inputs, formats=formats, form=form)
    failing = trial is not None and limit is not None and trial.drop(()) > limit
    used, ranked = _rank(model, settings, data, formats) if settings.sensitivity or failing else (0, [])
    record = Sensitivity(rows=used, modules=tuple(ranked) if settings.sensitivity else ())
    if trial is None or limit is None:
        return formats, record
    keep = worst_to_keep(ranked, trial.drop, limit) if failing else ()
    added = sum(entry.bytes_saved for entry in ranked if entry.module in keep)
    if keep:
        note(f"{len(keep)} modules stay fp32 and add {added / 1e6:.1f} MB: {', '.join(keep)}")
    return replace(formats, keep_fp32=keep), record.model_copy(
        update={
            "kept_fp32": keep,
            "bytes_added": added,
            "max_quality_drop": limit,
            "quality_fp32": trial.fp32,
            "quality_int8": trial.quality(()),
            "quality_kept": trial.quality(keep),
        }
    )


def _rank(
    model: Model, settings: ExportConfig, data: DataConfig | None, formats: Formats
) -> tuple[int, list[ModuleSensitivity]]:
    """The number of training rows that the modules were ranked on, and the ranking."""
    rows = min(settings.calibration, _RANKING_ROWS)
    batches = calibration_batches(
        data, model.tokenizer, rows, batch_size=32, purpose="The ranking of modules takes its rows"
    )
    ranked = rank(
        model,
        batches,
        portable=settings.portable,
        ranges=formats.ranges,
        divisors=divisors_for(model, settings),
    )
    return sum(len(batch["input_ids"]) for batch in batches), ranked


class _Trial:
    """Scores int8 files on the validation split as `evaluate` will score the one that is kept.

    The file itself is run: ranges of activations depend on which texts meet in a batch and on padding, and half a
    point of accuracy on both.
    """

    def __init__(
        self, model: Model, settings: ExportConfig, inputs: Inputs | None, *, formats: Formats, form: Form
    ) -> None:
        if inputs is None or "validation" not in inputs.splits:
            raise ConfigError(
                "export.max_quality_drop is judged on validation rows, and there are none.",
                hint="Add `data: {train: FILE, validation: FILE}` to the config.",
            )
        self._model, self._settings, self._formats, self._form = model, settings, formats, form
        self._task = inputs.task
        self._encoded = inputs.required("validation", model.tokenizer)
        self._seen: dict[tuple[str, ...], float] = {}
        self.fp32 = score(model, self._encoded, self._task)

    def quality(self, keep: tuple[str, ...]) -> float:
        """The primary metric with these modules at fp32."""
        if keep not in self._seen:
            made, _ = variant(self._model, "int8", self._settings, replace(self._formats, keep_fp32=keep))
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "trial.onnx"
                save(build(made, self._settings, self._form), file)
                runner = open_runner(file)
                try:
                    found = evaluate(runner, self._task, self._encoded)
                finally:
                    runner.close()
            self._seen[keep] = found.results[self._task.primary_metric].value
        return self._seen[keep]

    def drop(self, keep: tuple[str, ...]) -> float:
        """What is lost against fp32, in points of the metric; less than 0 is a gain."""
        metrics = {metric.name: metric.direction for metric in self._task.metrics}
        lost = self.fp32 - self.quality(keep)
        return lost if metrics[self._task.primary_metric] == "higher" else -lost


def _ranks(settings: ExportConfig) -> bool:
    return settings.sensitivity or settings.max_quality_drop is not None


def _refuse(model: Model, settings: ExportConfig, *, static: bool) -> None:
    int8 = model.is_int8 if settings.precision == "auto" else settings.precision in ("int8", "both")
    if settings.format != "onnx" or not int8:
        raise ConfigError(
            "export.activations: static, sensitivity and max_quality_drop are about int8 products in an ONNX "
            "file, and none is to be written.",
            hint="Set export.precision: int8, or leave them out; OpenVINO int8 is static anyway.",
        )
    if model.is_int8 and not (static and not settings.sensitivity and settings.max_quality_drop is None):
        raise ConfigError(
            "export.sensitivity and max_quality_drop need the fp32 weights, and this model holds int8 ones.",
            hint="Export the model from before quantization with precision: int8.",
        )

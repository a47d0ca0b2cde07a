"""What the data decides about the int8 file of an export: ranges of activations, and what stays fp32."""

from __future__ import annotations

from dataclasses import replace

from compressbert.config.schema import DataConfig, ExportConfig
from compressbert.errors import ConfigError
from compressbert.export.calibration import calibrate
from compressbert.export.sensitivity import rank, worst_to_keep
from compressbert.export.variants import Formats, int8_products, variant
from compressbert.model.handle import Model
from compressbert.pipeline.steps.calibration import calibration_batches
from compressbert.pipeline.steps.inputs import Inputs
from compressbert.progress import note
from compressbert.results.record import Sensitivity
from compressbert.train.predict import score

_RANKING_ROWS = 128  # what single modules do to the output shows on few rows


def choose_formats(
    model: Model, settings: ExportConfig, data: DataConfig | None, inputs: Inputs | None
) -> tuple[Formats, Sensitivity | None]:
    """Calibrate, rank and fall back as the settings ask for.

    Raises:
        ConfigError: They ask for it where no int8 ONNX file is written from fp32 weights, or without data.
    """
    static, ranked = (
        settings.activations == "static",
        settings.sensitivity or settings.max_quality_drop is not None,
    )
    if not (static or ranked):
        return Formats(), None
    _refuse(model, settings, static=static)
    formats = Formats()
    if static:
        batches = calibration_batches(data, model.tokenizer, settings.calibration)
        ranges = calibrate(model, int8_products(model), batches, percentile=settings.percentile)
        formats = Formats(ranges=ranges)
    return _fall_back(model, settings, data, inputs, formats) if ranked else (formats, None)


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


def _fall_back(
    model: Model, settings: ExportConfig, data: DataConfig | None, inputs: Inputs | None, formats: Formats
) -> tuple[Formats, Sensitivity]:
    rows = min(settings.calibration, _RANKING_ROWS)
    batches = calibration_batches(data, model.tokenizer, rows, batch_size=32)
    ranked = rank(model, batches, portable=settings.portable, ranges=formats.ranges)
    used = sum(len(batch["input_ids"]) for batch in batches)
    record = Sensitivity(rows=used, modules=tuple(ranked) if settings.sensitivity else ())
    limit = settings.max_quality_drop
    if limit is None:
        return formats, record
    if inputs is None or "validation" not in inputs.splits:
        raise ConfigError(
            "export.max_quality_drop is judged on validation rows, and there are none.",
            hint="Add `data: {train: FILE, validation: FILE}` to the config.",
        )
    encoded, task = inputs.required("validation", model.tokenizer), inputs.task
    direction = next(metric.direction for metric in task.metrics if metric.name == task.primary_metric)
    sign = 1 if direction == "higher" else -1
    seen: dict[tuple[str, ...], float] = {}

    def quality(keep: tuple[str, ...]) -> float:
        if keep not in seen:
            made, _ = variant(model, "int8", settings, replace(formats, keep_fp32=keep))
            seen[keep] = score(made, encoded, task)
        return seen[keep]

    fp32, int8 = score(model, encoded, task), quality(())
    keep: tuple[str, ...] = ()
    if sign * (fp32 - int8) > limit:
        keep = worst_to_keep(ranked, lambda names: sign * (fp32 - quality(names)), limit)
    added = sum(entry.bytes_saved for entry in ranked if entry.module in keep)
    if keep:
        note(f"{len(keep)} modules stay fp32 and add {added / 1e6:.1f} MB: {', '.join(keep)}")
    return replace(formats, keep_fp32=keep), record.model_copy(
        update={
            "kept_fp32": keep,
            "bytes_added": added,
            "max_quality_drop": limit,
            "quality_fp32": fp32,
            "quality_int8": int8,
            "quality_kept": quality(keep),
        }
    )

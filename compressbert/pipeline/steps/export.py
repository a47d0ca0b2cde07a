"""`export`: write a model folder as ONNX or OpenVINO IR, checked against PyTorch before it is kept."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from compressbert.config.extras import require_extras
from compressbert.config.schema import DataConfig, ExportConfig, ExportStepConfig
from compressbert.errors import ConfigError
from compressbert.export.foreign import load_for_export
from compressbert.export.form import Form
from compressbert.export.targets import arrange, check_target
from compressbert.export.variants import Formats, variant
from compressbert.export.write import ExportFacts, export_onnx
from compressbert.measure.quality import quality_of_predictions
from compressbert.measure.size import onnx_facts, openvino_facts
from compressbert.model.count import facts
from compressbert.model.families import is_known
from compressbert.model.handle import Model
from compressbert.model.heads import pooling_for
from compressbert.nn.saturation import without_vnni
from compressbert.pipeline.keys import model_fingerprint, step_key
from compressbert.pipeline.steps.calibration import calibration_batches
from compressbert.pipeline.steps.formats import calibrated, fall_back
from compressbert.pipeline.steps.inputs import Inputs, read_inputs
from compressbert.pipeline.steps.outcome import Outcome, commit, output_folder
from compressbert.pipeline.steps.tune import choose_form
from compressbert.results.record import ModelFacts, Portability, StepResult
from compressbert.results.store import StepFolder, step_folder
from compressbert.train.predict import collect


def export_key(config: ExportStepConfig, *, parent: str, data: DataConfig | None) -> str:
    """Return the key of an export from the fingerprint of the model it reads."""
    settings = config.model_dump(mode="json", include={"export", "seed"})
    return step_key("export", settings, inputs=[parent], data=data)


def export(
    config: ExportStepConfig, *, overwrite: bool = False, data: DataConfig | None = None
) -> StepResult:
    """Export ``config.model`` to ``config.output``; with validation data, the written file is also scored on it.

    ``data`` goes before ``config.data``: a pipeline's steps share theirs.

    Raises:
        ConfigError: The output folder is not empty, or the precision asked for is not possible.
        InputError: The model is unusable, or an optional extra is missing.
        WorkError: The file's outputs differ from PyTorch's; nothing is kept.
    """
    started = time.monotonic()
    check_target(config.export)
    require_extras(config.export)
    data = data or config.data
    target = output_folder(config)
    parent = model_fingerprint(config.model.path, config.model.revision)
    key = export_key(config, parent=parent, data=data)
    with step_folder(target, overwrite=overwrite, key=key) as step:
        inputs = None
        if data is not None and (data.validation is not None or data.hub is not None):
            inputs = read_inputs(data, config.model, needs=("validation",))
        model = load_for_export(
            config.model.path,
            revision=config.model.revision,
            trust_remote_code=config.model.trust_remote_code,
        )
        if inputs is not None and inputs.task.kind == "sentence-embedding":
            model.pooling = pooling_for(model.pooling, inputs.task.spec(), Path(config.model.path))
        formats = calibrated(model, config.export, data)
        lengths = None
        if config.export.tune and inputs is not None and "validation" in inputs.splits:
            lengths = inputs.required("validation", model.tokenizer).lengths.tolist()
        form, tuning = choose_form(model, config.export, formats, lengths)
        formats, sensitivity = fall_back(model, config.export, data, inputs, formats=formats, form=form)
        exported = _write(model, step, config.export, data, formats, form=form)
        outcome = Outcome("export", config, config.model, parent, inputs, started, notes=exported.notes)
        outcome.sensitivity, outcome.tuning = sensitivity, tuning
        outcome.portability = _portability(exported.portability, model, config.export, formats, inputs)
        main = list(exported.files.values())[-1]
        return commit(step, outcome, _facts(model, main))


def _write(
    model: Model,
    step: StepFolder,
    settings: ExportConfig,
    data: DataConfig | None,
    formats: Formats,
    *,
    form: Form,
) -> ExportFacts:
    if settings.format == "onnx":
        exported = export_onnx(model, step.folder, settings, formats=formats, form=form)
        moved = arrange(step.folder, model, settings, name=step.target.name)
        return replace(exported, files={name: moved.get(file, file) for name, file in exported.files.items()})
    if settings.precision in ("int4", "int8-weight-only") or settings.embeddings != "auto":
        raise ConfigError(
            "precision: int4 and int8-weight-only, and embeddings, are about ONNX files.",
            hint="Set export.precision to fp32, int8 or both for OpenVINO, and leave embeddings out.",
        )
    from compressbert.export.openvino import export_openvino, refuse

    refuse(model)
    texts = None
    if settings.precision in ("int8", "both"):
        texts = calibration_batches(data, model.tokenizer, settings.calibration)
    return export_openvino(model, step.folder, settings, texts)


def _portability(
    found: Portability | None, model: Model, settings: ExportConfig, formats: Formats, inputs: Inputs | None
) -> Portability | None:
    """Add the quality on a CPU without VNNI where the file is not exact there; else it is the file's own."""
    if found is None or not found.saturating_pairs or inputs is None or "validation" not in inputs.splits:
        return found
    int8, _ = variant(model, "int8", settings, formats)
    encoded = inputs.required("validation", model.tokenizer)
    with without_vnni(int8.network):
        quality = quality_of_predictions(collect(int8, encoded, inputs.task), inputs.task)
    return found.model_copy(update={"quality_without_vnni": quality.results})


def _facts(model: Model, file: Path) -> ModelFacts | None:
    """Return the model's counts with the bytes of the file; None for an architecture whose parts are not known."""
    if not (model.is_own or is_known(model.network.config.model_type)):
        return None
    size = onnx_facts(file) if file.suffix == ".onnx" else openvino_facts(file)
    return facts(model).model_copy(
        update={"bytes_on_disk": size.bytes_on_disk, "bytes_by_component": size.bytes_by_component}
    )

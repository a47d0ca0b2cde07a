"""Exports a model: the graph, a comparison with PyTorch, and the files that other loaders look for."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import onnx

from compressbert.config.schema import ExportConfig
from compressbert.errors import ConfigError, InputError
from compressbert.export import heads, trace
from compressbert.export.encoder import input_names, write_encoder
from compressbert.export.folder import staging, write_companions
from compressbert.export.form import Form
from compressbert.export.graph import GraphBuilder
from compressbert.export.groups import group_rows, write_in_groups
from compressbert.export.metadata import metadata_of, ragged_note
from compressbert.export.parity import Parity, check
from compressbert.export.portable import explain
from compressbert.export.products import Emitter
from compressbert.export.save import save
from compressbert.export.text_vectors import INPUTS, write_text_vectors
from compressbert.export.variants import Formats, Precision, stored_precision
from compressbert.export.variants import variant as variant_of
from compressbert.export.waldorf import waldorf_inputs, waldorf_refusal, write_waldorf
from compressbert.model.architectures.waldorf import WaldorfConfig
from compressbert.model.handle import Model
from compressbert.progress import note
from compressbert.results.record import Portability

DEFAULT_FORM = Form()
FILES: dict[Precision, str] = {
    "fp32": "onnx/model.onnx",
    "int8": "onnx/model_quantized.onnx",
    "int4": "onnx/model_q4.onnx",
    "int8-weight-only": "onnx/model_int8.onnx",
}


@dataclass(frozen=True)
class ExportFacts:
    """What an export wrote.

    Attributes:
        files: Precision to file.
        parity: Precision to the comparison with PyTorch that the file passed.
        seconds: Wall time of everything.
        route: Written directly from the weights, or traced by PyTorch's exporter.
        notes: What a reader should know.
        portability: Of the int8 file, if there is one: the CPUs on which it is exact.
    """

    files: dict[str, Path]
    parity: dict[str, Parity]
    seconds: float
    route: Literal["direct", "trace"]
    notes: tuple[str, ...]
    portability: Portability | None = None


def export_onnx(
    model: Model,
    folder: Path,
    settings: ExportConfig,
    *,
    formats: Formats | None = None,
    form: Form = DEFAULT_FORM,
) -> ExportFacts:
    """Write ``onnx/model.onnx`` and/or ``onnx/model_quantized.onnx``, `config.json` and the tokenizer.

    The known families and our own networks are written directly from their weights, all else by PyTorch's
    exporter. Every file is compared with PyTorch on padded batches first; files are moved into ``folder`` when
    all have passed.

    Args:
        model: Left as it is.
        folder: Made if it does not exist.
        settings: Precision, operator set, lossless speed-ups.
        formats: What data decided about single modules of the int8 file; default: nothing.
        form: How the graph is written, for models that are written directly.

    Raises:
        ConfigError: A precision this model cannot be exported with.
        WorkError: A file differs from PyTorch, or is too large. Nothing is kept then.
    """
    started = time.perf_counter()
    reason = _refusal(model)
    precisions = _precisions(model, settings, traced=bool(reason))
    notes = [f"Written by PyTorch's exporter, because {reason}."] if reason else []
    parity: dict[str, Parity] = {}
    portable: Portability | None = None
    with staging(folder) as stage:
        for precision in precisions:
            variant, found = variant_of(model, precision, settings, formats or Formats())
            if found is not None:
                portable = found
                notes += [text for text in (explain(found), ragged_note(variant)) if text]
            file = stage / FILES[precision]
            file.parent.mkdir(exist_ok=True)
            if reason:
                parity[precision] = trace.export(variant, file, opset=settings.opset)
            else:
                save(build(variant, settings, form), file)
                parity[precision] = check(variant, file)
        write_companions(model, stage)
    for text in notes:
        note(text)
    files: dict[str, Path] = {precision: folder / FILES[precision] for precision in precisions}
    route: Literal["direct", "trace"] = "trace" if reason else "direct"
    return ExportFacts(files, parity, time.perf_counter() - started, route, tuple(notes), portable)


def is_direct(model: Model) -> bool:
    """Whether the graph is written directly from the weights, not by PyTorch's exporter."""
    return not _refusal(model)


def build(model: Model, settings: ExportConfig, form: Form = DEFAULT_FORM) -> onnx.ModelProto:
    """The graph of a model that is written directly, in the precision its modules have.

    Raises:
        InputError: This architecture or head is not written directly.
    """
    if reason := _refusal(model):
        raise InputError(f"This model cannot be written directly: {reason}.")
    graph = GraphBuilder()
    emit = Emitter(graph, model.network, skip_norm=form.norm == "skip")
    own = model.is_own
    inputs: tuple[str, ...]
    if isinstance(model.network.config, WaldorfConfig):
        outputs, inputs = write_waldorf(emit, model), waldorf_inputs(model)
    elif own:
        outputs, inputs = write_text_vectors(emit, model), INPUTS
    else:
        outputs, inputs = _write_transformer(emit, model, settings, form), input_names(model)
    precision = stored_precision(model)
    facts = metadata_of(model, precision=precision, opset=settings.opset, known_family=not own)
    return graph.finish(
        inputs=inputs,
        outputs=[(output.name, output.axes) for output in outputs],
        opset=settings.opset,
        metadata=facts,
    )


def _write_transformer(
    emit: Emitter, model: Model, settings: ExportConfig, form: Form
) -> tuple[heads.Output, ...]:
    head = heads.head_of(model)
    if head is None:
        raise InputError(f"This model cannot be written directly: {heads.refusal(model)}.")
    form = form if settings.optimize else replace(form, rows="padded", texts="together")

    def write() -> tuple[heads.Output, ...]:
        first_token_only = settings.optimize and head.reads_first_token
        encoded = write_encoder(emit, model, first_token_only=first_token_only, form=form)
        return heads.write_head(emit, head, encoded, width=model.width)

    # Scores of a whole vocabulary are as large as all else together, and joining them costs what groups gain.
    if form.texts == "together" or head.kind == "masked-lm":
        return write()
    return write_in_groups(emit.graph, input_names(model), group_rows(model), write)


def _refusal(model: Model) -> str:
    """Why the graph cannot be written directly; "" if it can."""
    if isinstance(model.network.config, WaldorfConfig):
        return waldorf_refusal(model)
    if model.is_own:
        return ""
    try:
        model.family  # noqa: B018 - asks whether the family is known
    except InputError:
        return f"models of type {model.network.config.model_type} are not written directly"
    return heads.refusal(model)


def _precisions(model: Model, settings: ExportConfig, *, traced: bool) -> tuple[Precision, ...]:
    wanted = settings.precision
    if (traced or model.is_own) and (wanted not in ("auto", "fp32") or model.is_int8):
        raise ConfigError(
            f"Export with precision: {'int8' if wanted == 'auto' else wanted} works for transformers that are written "
            f"directly; {type(model.network).__name__} is none.",
            hint="Set precision: fp32.",
        )
    if model.is_int8:
        if wanted not in ("auto", "int8"):
            raise ConfigError(
                f"This model holds int8 weights, so it cannot be exported with precision: {wanted}.",
                hint="Set precision: int8, or export the model from before quantization.",
            )
        if settings.embeddings != "auto":
            raise ConfigError(
                f"This model holds int8 weights, so embeddings: {settings.embeddings} cannot be chosen any more.",
                hint="Leave embeddings out, or export the model from before quantization.",
            )
        return ("int8",)
    if wanted == "both":
        return ("fp32", "int8")
    return ("fp32",) if wanted == "auto" else (wanted,)

"""`distill`, `prune` and `quantize`: one plain function that hands a model to a method."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from compressbert.config.load import parse_method
from compressbert.config.schema import CompressConfig, ModelSource, TrainConfig
from compressbert.data.own_vocabulary import same_pieces
from compressbert.errors import ConfigError
from compressbert.methods.base import MethodConfig, Run
from compressbert.methods.registry import MethodInfo, find_method, load_method
from compressbert.model.checkpoint import load
from compressbert.model.handle import Model
from compressbert.pipeline.compress_checks import check_compress
from compressbert.pipeline.keys import model_fingerprint, step_key
from compressbert.pipeline.steps.augmentation import with_new_texts
from compressbert.pipeline.steps.inputs import Inputs, SplitName, read_inputs
from compressbert.pipeline.steps.outcome import Outcome, finish_model, output_folder
from compressbert.pipeline.steps.seeds import need_validation, other_seeds
from compressbert.pipeline.steps.together import shared_step
from compressbert.progress import note
from compressbert.results.record import StepResult


def train_settings(info: MethodInfo, given: dict[str, Any]) -> TrainConfig:
    """Return the training settings: the method's defaults under what the user gave."""
    return TrainConfig.model_validate({**info.train_defaults, **given})


def compress_key(kind: str, config: CompressConfig, *, parent: str) -> str:
    """Return the key of a compress step; ``parent`` is the fingerprint of its model. Imports no torch-heavy method."""
    info = find_method(config.method.name, kind)
    settings = config.model_dump(mode="json", include={"method", "train", "augment", "seed", "seeds"})
    others = config.others.items()
    inputs = [parent, *(f"{role}:{model_fingerprint(model.path, model.revision)}" for role, model in others)]
    return step_key("compress", settings, inputs=inputs, data=config.data, method_file=info.path)


def compress(kind: str, config: CompressConfig, *, overwrite: bool = False) -> StepResult:
    """Apply ``config.method`` to ``config.model`` and write a model folder to ``config.output``.

    Args:
        kind: distill, prune or quantize; the method must belong to it.
        config: Settings. For distill, ``model`` is the teacher.
        overwrite: Replace an existing output folder.

    Raises:
        ConfigError: Unknown method, impossible setting, or the output folder is not empty.
        InputError: The model or the data is unusable.
        WorkError: Training diverged, or the disk is full.
    """
    started = time.monotonic()
    target = output_folder(config)
    info = find_method(config.method.name, kind)
    module = load_method(info)
    settings: MethodConfig = parse_method(config.method, module.Config)
    check_compress(config, settings)
    parent = model_fingerprint(config.model.path, config.model.revision)
    key = compress_key(kind, config, parent=parent)
    with shared_step(target, overwrite=overwrite, key=key) as step:
        inputs = _inputs(config, info, settings)
        model = _load(config.model, inputs)

        def made(seed: int, work: Path) -> tuple[Model, Run]:
            torch.manual_seed(seed)  # a student's folder may lack a head
            run = _run(config.model_copy(update={"seed": seed}), info, model, inputs, work)
            torch.manual_seed(seed)
            return module.compress(model, settings, run), run

        several = config.seeds > 1 and _draws(config, info, settings)
        if several:
            need_validation(config, inputs)
        result, run = made(config.seed, step.work)
        others = other_seeds(config, inputs, step.work, lambda *its: made(*its)[0]) if several else {}
        entry = {"method": info.name, "settings": settings.model_dump(mode="json"), "parent_sha256": parent}
        result.history.append(entry)
        outcome = Outcome(kind, config, config.model, parent, inputs, started, log=run.log, notes=run.notes)
        outcome.other_seeds = others
        outcome.resolved = _resolved(config, info, settings)
        return step.finish(lambda folder: finish_model(folder, result, outcome))


def _draws(config: CompressConfig, info: MethodInfo, settings: MethodConfig) -> bool:
    """Whether a method has anything random in it: one that reads no training data does not."""
    if "data" in settings.needs(info.needs):
        return True
    note(f"{info.name} trains nothing, so every seed would give the same model: seeds: {config.seeds} is one")
    return False


def _inputs(config: CompressConfig, info: MethodInfo, settings: MethodConfig) -> Inputs | None:
    learns = "data" in settings.needs(info.needs)
    if config.data is None:
        if learns:
            raise ConfigError(
                f"{info.name} needs training data and there is no data section",
                hint="Add `data: {train: FILE, validation: FILE}`, or `--data FILE`.",
            )
        return None
    unlabelled = bool(config.data.unlabelled.files)
    if unlabelled and not settings.reads_unlabelled:
        note(f"{info.name} does not read data.unlabelled")
    without_labels = unlabelled and settings.reads_unlabelled
    needed: tuple[SplitName, ...] = ("train",) if learns and not without_labels else ()
    also: tuple[SplitName, ...] = ("validation",) if needed else ("train", "validation")
    seed = config.seed if without_labels else None
    return read_inputs(config.data, config.model, needs=needed, also=also, unlabelled_seed=seed)


def _load(source: ModelSource, inputs: Inputs | None) -> Model:
    spec = inputs.task.spec() if inputs is not None else None
    return load(source.path, task=spec, revision=source.revision, trust_remote_code=source.trust_remote_code)


def _run(config: CompressConfig, info: MethodInfo, model: Model, inputs: Inputs | None, work: Path) -> Run:
    rows = len(inputs.splits["train"].rows) if inputs is not None and "train" in inputs.splits else 0
    if inputs is not None and rows:
        inputs = with_new_texts(inputs, config, model.tokenizer)
    run = Run(
        task=inputs.task if inputs is not None else None,
        train=inputs.encoded("train", model.tokenizer) if inputs is not None else None,
        validation=inputs.encoded("validation", model.tokenizer) if inputs is not None else None,
        unlabelled=inputs.encoded_unlabelled(model.tokenizer) if inputs is not None else None,
        settings=train_settings(info, config.train),
        teacher=_load(config.teacher, inputs) if config.teacher is not None else None,
        student=_load(config.student, inputs) if config.student is not None else None,
        seed=config.seed,
        work=work,
    )
    if config.augment is not None and run.train is not None:
        run.note(f"{len(run.train):,} texts are made of {rows:,} by augmentation ({config.augment.kind}).")
    if run.student is None or run.train is None or same_pieces(run.student.tokenizer, model.tokenizer):
        return run
    return run.for_tokenizer(run.student.tokenizer)


def _resolved(config: CompressConfig, info: MethodInfo, settings: MethodConfig) -> dict[str, Any]:
    """Return the config with every default of the method filled in."""
    document = config.model_dump(mode="json")
    document["method"] = {"name": info.name, **settings.model_dump(mode="json")}
    document["train"] = train_settings(info, config.train).model_dump(mode="json")
    return document

"""What every step does after its work: save, score what was saved, and write the record last."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compressbert.config.schema import ModelSource, StepConfig
from compressbert.data.read import Split
from compressbert.errors import ConfigError
from compressbert.measure.quality import Quality, evaluate, load_predictions, save_predictions
from compressbert.measure.runners import open_runner
from compressbert.measure.seeds import seed_summary
from compressbert.model.checkpoint import load_tokenizer, save
from compressbert.model.count import facts
from compressbert.model.handle import Model
from compressbert.pipeline.steps.inputs import Inputs, artefact_folder
from compressbert.report.card import Card, write_card
from compressbert.results.environment import environment
from compressbert.results.record import (
    DataFacts,
    LineageStep,
    ModelFacts,
    Parent,
    Portability,
    SeedSummary,
    Sensitivity,
    StepResult,
    Tuning,
)
from compressbert.results.store import RESULT_NAME, StepFolder, read_result

PREDICTIONS = "predictions.safetensors"


@dataclass
class Outcome:
    """What a step knows about itself once its work is done."""

    command: str
    config: StepConfig
    source: ModelSource
    parent_sha256: str
    inputs: Inputs | None
    started: float
    log: Sequence[Mapping[str, float]] = ()
    notes: Sequence[str] = ()
    portability: Portability | None = None
    sensitivity: Sensitivity | None = None
    tuning: Tuning | None = None
    other_seeds: Mapping[int, Path] = field(default_factory=dict)  # seed to what its model predicted
    resolved: dict[str, Any] = field(default_factory=dict)  # the config with a method's defaults filled in


def output_folder(config: StepConfig) -> Path:
    """Return the step's target folder.

    Raises:
        ConfigError: No output was given.
    """
    if config.output is None:
        raise ConfigError(
            "no output folder was given", hint="Add `output: FOLDER` to the config, or `--output FOLDER`."
        )
    return Path(config.output)


def score(path: Path, inputs: Inputs | None, *, predictions: Path | None = None) -> Quality | None:
    """`scored`, or None without a validation split."""
    if inputs is None or "validation" not in inputs.splits:
        return None
    return scored(path, inputs, predictions=predictions)


def scored(path: Path, inputs: Inputs, *, predictions: Path | None = None) -> Quality:
    """Evaluate the artefact at ``path`` on the validation split.

    Args:
        path: A model folder, an export folder or an .onnx file.
        inputs: Task and data, the validation split among them.
        predictions: File to keep the logits in, so that a comparison need not run the model again.
    """
    encoded = inputs.required("validation", load_tokenizer(artefact_folder(path)))
    pooled = inputs.task.kind == "sentence-embedding"
    runner = open_runner(path, task=inputs.task.spec() if pooled else None)
    try:
        quality = evaluate(runner, inputs.task, encoded)
    finally:
        runner.close()
    if predictions is not None:
        save_predictions(predictions, quality)
    return quality


def finish_model(step: StepFolder, model: Model, outcome: Outcome) -> StepResult:
    """Save ``model`` into the step's folder, score the saved copy, and commit the record."""
    model.network.cpu()
    save(model, step.folder)
    return commit(step, outcome, facts(model, step.folder))


def commit(step: StepFolder, outcome: Outcome, model: ModelFacts | None) -> StepResult:
    """Score what lies in the step's folder, write its model card and commit its record."""
    quality = score(step.folder, outcome.inputs, predictions=step.folder / PREDICTIONS)
    config = outcome.resolved or outcome.config.model_dump(mode="json")
    seeds = _seeds(step, outcome, quality) if quality is not None and outcome.other_seeds else None
    result = StepResult(
        step=step.target.name,
        command=outcome.command,
        config=config,
        seed=outcome.config.seed,
        parent=Parent(folder=outcome.source.path, sha256=outcome.parent_sha256),
        lineage=_lineage(outcome, config),
        model=model,
        quality=quality.results if quality is not None else {},
        primary_metric=outcome.inputs.task.primary_metric if quality is not None and outcome.inputs else None,
        portability=outcome.portability,
        sensitivity=outcome.sensitivity,
        tuning=outcome.tuning,
        seeds=seeds,
        training=tuple(dict(entry) for entry in outcome.log),
        notes=tuple(outcome.notes),
        environment=environment(),
        seconds=time.monotonic() - outcome.started,
        files={},
    )
    write_card(Card(result), step.folder)
    return step.commit(result)


def _lineage(outcome: Outcome, config: Mapping[str, Any]) -> tuple[LineageStep, ...]:
    """The steps that the model read came about by, as its own record lists them, and this one."""
    place = Path(outcome.source.path)
    before = read_result(place).lineage if (place / RESULT_NAME).is_file() else ()
    method = dict(config.get("method") or {})
    settings = {key: dict(config[key]) for key in ("train", "export") if config.get(key)}
    if outcome.command != "finetune" and not outcome.log:
        settings.pop("train", None)  # nothing was trained
    own = LineageStep(
        command=outcome.command,
        method=method.pop("name", None),
        settings={**({"method": method} if method else {}), **settings},
        seed=outcome.config.seed,
        data=_data_facts(outcome.inputs),
        parent=Parent(folder=outcome.source.path, sha256=outcome.parent_sha256),
    )
    return (*before, own)


def _data_facts(inputs: Inputs | None) -> DataFacts | None:
    if inputs is None:
        return None
    splits: dict[str, Split] = dict(inputs.splits.items())
    if inputs.unlabelled is not None:
        splits["unlabelled"] = inputs.unlabelled
    return DataFacts(
        section=inputs.config.model_dump(mode="json"),
        files={file: digest for split in splits.values() for file, digest in split.files.items()},
        rows={name: len(split.rows) for name, split in splits.items()},
        pairs=any("text_pair" in split.rows.column_names for split in splits.values()),
    )


def _seeds(step: StepFolder, outcome: Outcome, quality: Quality) -> SeedSummary | None:
    """Summarise the seeds, and keep what each predicted beside the model."""
    if outcome.inputs is None:
        return None
    qualities = {outcome.config.seed: quality}
    for seed, file in outcome.other_seeds.items():
        shutil.copyfile(file, step.folder / file.name)
        qualities[seed] = load_predictions(file, outcome.inputs.task)
    return seed_summary(qualities, outcome.inputs.task)

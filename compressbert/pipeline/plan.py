"""What a pipeline would do: each step with its folder, its settings, whether it runs or is skipped, and why.

Planning reads files and writes none, and it imports no torch: a finished pipeline is recognised in a moment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from compressbert.config.document import merged
from compressbert.config.extras import require_extras
from compressbert.config.load import parse_method
from compressbert.config.schema import (
    CompressConfig,
    DataConfig,
    ExportConfig,
    ExportStepConfig,
    FinetuneConfig,
    ModelSource,
    PipelineConfig,
    PipelineStep,
    TrainConfig,
    parse_steps,
)
from compressbert.errors import ConfigError
from compressbert.methods.registry import MethodInfo, config_class, find_method
from compressbert.pipeline.keys import data_fingerprint, model_fingerprint, step_key
from compressbert.results.hashing import sha256_file
from compressbert.results.store import RESULT_NAME

LOCK = "pipeline.lock.json"
INPUT = "input"  # name of the pipeline's own model among its steps

StepSettings = FinetuneConfig | CompressConfig | ExportStepConfig


@dataclass(frozen=True)
class PlannedStep:
    """One step, resolved. ``key`` is None while a model it reads does not exist yet."""

    name: str
    kind: str
    folder: Path
    config: StepSettings
    data: DataConfig
    source: str  # name of the step whose output it works on
    method: MethodInfo | None
    links: Mapping[str, str] = field(default_factory=dict)  # teacher, student: the step it is the output of
    action: Literal["run", "skip"] = "run"
    reason: str = ""
    key: str | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the steps whose output it reads."""
        return (self.source, *self.links.values())

    def key_for(self, fingerprints: dict[str, str | None]) -> str | None:
        """Return the step's key, given what identifies the output of each step; None if one it reads is missing."""
        inputs = [fingerprints.get(self.source)]
        others = self.config.others if isinstance(self.config, CompressConfig) else {}
        for role, model in others.items():
            linked = self.links.get(role)
            found = fingerprints.get(linked) if linked else model_fingerprint(model.path, model.revision)
            inputs.append(found and f"{role}:{found}")
        present = [fingerprint for fingerprint in inputs if fingerprint is not None]
        if len(present) < len(inputs):
            return None
        kind = self.kind if self.kind in ("finetune", "export") else "compress"
        parts = {"method", "train", "augment", "export", "seed", "seeds"}
        settings = self.config.model_dump(mode="json", include=parts)
        method_file = self.method.path if self.method else None
        return step_key(kind, settings, inputs=present, data=self.data, method_file=method_file)


@dataclass(frozen=True)
class Plan:
    """A resolved pipeline."""

    folder: Path
    steps: tuple[PlannedStep, ...]
    baseline: str

    @property
    def running(self) -> tuple[PlannedStep, ...]:
        """The steps that will run."""
        return tuple(step for step in self.steps if step.action == "run")

    def step(self, name: str) -> PlannedStep:
        """Return the step of that name."""
        return next(step for step in self.steps if step.name == name)


def run_folder(config: PipelineConfig) -> Path:
    """Return the folder a pipeline writes to."""
    return Path(config.output or f"runs/{config.name}")


def read_lock(folder: Path) -> dict[str, str]:
    """Return the keys of the steps that finished in a run folder."""
    file = folder / LOCK
    if not file.is_file():
        return {}
    keys: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))["steps"]
    return keys


def plan(
    config: PipelineConfig,
    *,
    force: Sequence[str] = (),
    from_step: str | None = None,
    only: str | None = None,
) -> Plan:
    """Resolve every step of a pipeline and decide which of them run.

    Args:
        config: The pipeline.
        force: Steps to run even if nothing changed.
        from_step: Run this step and all after it.
        only: Run this step alone; what it reads must be there.

    Raises:
        ConfigError: Unknown step or method, or impossible settings.
        InputError: A data file or an optional extra is missing.
    """
    folder = run_folder(config)
    steps = _resolve(config, folder)
    names = [step.name for step in steps]
    asked = [*force, *(name for name in (from_step, only, config.report.baseline) if name and name != INPUT)]
    for name in asked:
        if name not in names:
            raise ConfigError(f"no step is named {name!r}", hint=f"The steps are: {', '.join(names)}.")
    forced = {*force, *(names[names.index(from_step) :] if from_step else ()), *([only] if only else ())}
    locked = read_lock(folder)
    fingerprints: dict[str, str | None] = {INPUT: model_fingerprint(config.model.path, config.model.revision)}
    decided = []
    for step in steps:
        if only is not None and step.name != only:
            choice = replace(step, action="skip", reason="not asked for")
        else:
            choice = _decide(step, fingerprints, locked, forced=step.name in forced)
        finished = choice.action == "skip" and (step.folder / RESULT_NAME).is_file()
        fingerprints[step.name] = model_fingerprint(str(step.folder)) if finished else None
        decided.append(choice)
    if only is not None:
        _need_inputs(next(step for step in steps if step.name == only), fingerprints)
    default = next((step.name for step in steps if step.kind == "finetune"), INPUT)
    return Plan(folder, tuple(decided), config.report.baseline or default)


def _resolve(config: PipelineConfig, folder: Path) -> list[PlannedStep]:
    """Return the steps in order with everything they inherit filled in."""
    folders: dict[str, Path] = {}
    resolved = []
    before = INPUT
    for index, step in enumerate(parse_steps(config), start=1):
        place = folder / f"{index:02d}-{step.name}"
        resolved.append(_resolve_step(config, step, step.from_step or before, place, folders))
        folders[step.name] = place
        before = step.name if step.kind != "export" else before
    return resolved


def _resolve_step(
    config: PipelineConfig, step: PipelineStep, source: str, place: Path, folders: dict[str, Path]
) -> PlannedStep:
    def model_of(name: str) -> ModelSource:
        return config.model if name == INPUT else ModelSource(path=str(folders.get(name, name)))

    data = DataConfig.model_validate(merged(config.data.model_dump(exclude_unset=True), step.data))
    train = merged(config.train, step.train)
    seed = config.seed if step.seed is None else step.seed
    seeds = config.seeds if step.seeds is None else step.seeds
    shared: dict[str, Any] = {"model": model_of(source), "seed": seed, "output": str(place)}
    links: dict[str, str] = {}
    settings: StepSettings
    method = None
    if step.kind == "finetune":
        settings = FinetuneConfig(**shared, seeds=seeds, data=data, train=TrainConfig.model_validate(train))
    elif step.method is None:
        settings = ExportStepConfig(**shared, export=step.export or ExportConfig())
        require_extras(settings.export)
    else:
        method = find_method(step.method.name, step.kind)
        named = {role: name for role in ("teacher", "student") if (name := getattr(step, role))}
        links = {role: name for role, name in named.items() if name == INPUT or name in folders}
        others = {role: model_of(name) for role, name in named.items()}
        own = {"method": step.method, "augment": step.augment}
        settings = CompressConfig(**shared, seeds=seeds, data=data, train=train, **own, **others)
    return PlannedStep(step.name, step.kind, place, settings, data, source, method, links)


def _decide(
    step: PlannedStep, fingerprints: dict[str, str | None], locked: dict[str, str], *, forced: bool
) -> PlannedStep:
    """Return ``step`` with its key and whether it runs."""
    waiting = [name for name in step.reads if fingerprints[name] is None]
    if waiting:
        return replace(step, reason=f"{waiting[0]} runs before it")
    key = step.key_for(fingerprints)
    if forced:
        return replace(step, reason="asked for", key=key)
    if not (step.folder / RESULT_NAME).is_file():
        return replace(step, reason="not done yet", key=key)
    if locked.get(step.name) != key:
        return replace(step, reason="its settings, input, data or code changed", key=key)
    damaged = damaged_file(step.folder)
    if damaged is not None:
        return replace(step, reason=f"{damaged} changed since it was written", key=key)
    return replace(step, action="skip", reason="unchanged", key=key)


def _need_inputs(step: PlannedStep, fingerprints: dict[str, str | None]) -> None:
    for name in step.reads:
        if fingerprints[name] is None:
            raise ConfigError(
                f"step {step.name!r} reads the output of {name!r}, which is not there",
                hint="Run the pipeline without --only first.",
            )


def damaged_file(folder: Path) -> str | None:
    """Return the first file of a finished step that is missing or differs from its record; None if all agree."""
    recorded: dict[str, str] = json.loads((folder / RESULT_NAME).read_text(encoding="utf-8"))["files"]
    for name, digest in recorded.items():
        file = folder / name
        if not file.is_file() or sha256_file(file) != digest:
            return name
    return None


def check_running(planned: Plan) -> None:
    """Check what the running steps need before the first of them starts: method settings and data files.

    Raises:
        ConfigError: What is wrong with the settings of all methods, at once.
        InputError: A data file is missing.
    """
    problems: list[str] = []
    for step in planned.running:
        data_fingerprint(step.data)
        if step.method is not None and isinstance(step.config, CompressConfig):
            problems += [f"step {step.name!r}: {line}" for line in _problems_of(step.config, step.method)]
    if problems:
        raise ConfigError("\n".join(problems), hint="`compressbert methods NAME` shows a method's settings.")


def _problems_of(config: CompressConfig, method: MethodInfo) -> list[str]:
    """What is wrong with the settings of a compress step; imports the method."""
    from compressbert.pipeline.compress_checks import check_compress

    try:
        check_compress(config, parse_method(config.method, config_class(method)))
    except ConfigError as error:
        *lines, last = error.message.splitlines()
        return [*lines, f"{last}. {error.hint}" if error.hint else last]
    return []

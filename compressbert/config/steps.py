"""The steps of a pipeline: ``[{kind: settings}, …]`` as `PipelineStep`, checked alone and together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from compressbert.config.augment import AugmentConfig
from compressbert.config.kinds import Settings
from compressbert.config.problems import Problem, dotted, problems_of, shown, suggestion
from compressbert.config.sections import (
    DataOverrides,
    ExportConfig,
    MethodSettings,
    Seed,
    Seeds,
    TrainOverrides,
)
from compressbert.errors import ConfigError

if TYPE_CHECKING:
    from compressbert.config.schema import PipelineConfig


class _Step(Settings):
    name: str | None = Field(None, description="Name of the step; default: its kind.")
    from_step: str | None = Field(
        None,
        alias="from",
        description="The step to read (default: the last that is no export), or input.",
    )


class FinetuneStep(_Step):
    """Settings of a `finetune` step of a pipeline."""

    data: DataOverrides = Field(default_factory=dict, description="Data settings over the pipeline's.")
    train: TrainOverrides = Field(default_factory=dict, description="Training settings over the pipeline's.")
    seed: Seed | None = Field(None, description="Seed of this step; default: the pipeline's.")
    seeds: Seeds | None = Field(None, description="How often this step is done; default: the pipeline's.")


class CompressStep(FinetuneStep):
    """Settings of a `distill`, `prune` or `quantize` step of a pipeline."""

    method: MethodSettings = Field(description="The method's name and its settings.")
    augment: AugmentConfig | None = Field(None, description="New texts to train on, as in `distill`.")
    student: str | None = Field(
        None, description="Where a distilled student starts: a step's name or a model folder."
    )
    teacher: str | None = Field(
        None, description="Teacher: a step's name or a model folder; default: the step's input."
    )


class ExportStep(_Step, ExportConfig):
    """Settings of an `export` step of a pipeline."""


STEP_SCHEMAS: Mapping[str, type[_Step]] = {
    "finetune": FinetuneStep,
    "distill": CompressStep,
    "prune": CompressStep,
    "quantize": CompressStep,
    "export": ExportStep,
}
STEP_KINDS = tuple(STEP_SCHEMAS)
INPUT = "input"  # the name under which steps read the pipeline's own model
_STEP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # it becomes a folder's name


class PipelineStep(Settings):
    """One step of a pipeline with what it states itself; the rest is the pipeline's."""

    kind: str
    name: str
    from_step: str | None = None
    method: MethodSettings | None = None
    augment: AugmentConfig | None = None
    data: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    seed: int | None = None
    seeds: int | None = None
    teacher: str | None = None
    student: str | None = None
    export: ExportConfig | None = None


def parse_steps(config: PipelineConfig) -> tuple[PipelineStep, ...]:
    """The steps of a pipeline, each checked against its kind and against the others.

    Raises:
        ConfigError: All problems at once, each with its key path.
    """
    steps, problems = read_steps(config.steps)
    if problems:
        raise ConfigError("\n".join(f"{dotted(problem.path)}: {problem.text}" for problem in problems))
    return tuple(steps)


def read_steps(raw: Iterable[Any]) -> tuple[list[PipelineStep], list[Problem]]:
    """The steps of ``[{kind: settings}, …]`` that can be read, and everything that is wrong with the list."""
    steps: list[PipelineStep] = []
    problems: list[Problem] = []
    unread: set[str] = (
        set()
    )  # names of steps that could not be read: a reference to one is not a second problem
    for index, entry in enumerate(raw):
        try:
            step = _read_step(entry, index)
            _check_links(step, steps, unread, index)
        except _StepProblems as found:
            problems.extend(found.problems)
            unread |= _names_meant(entry)
        else:
            steps.append(step)
    return steps, problems


class _StepProblems(Exception):
    """Carries problems to `read_steps`; never leaves this module."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__()
        self.problems = problems


def _read_step(entry: Any, index: int) -> PipelineStep:
    at = ("steps", index)
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise _StepProblems(
            Problem(at, f"a step is one of {', '.join(STEP_KINDS)}: {{settings}}, found {shown(entry)}")
        )
    kind, settings = next(iter(entry.items()))
    if kind not in STEP_SCHEMAS:
        hint = suggestion(kind, STEP_KINDS) or f"; known: {', '.join(STEP_KINDS)}"
        raise _StepProblems(Problem((*at, kind), f"unknown kind of step{hint}"))
    schema = STEP_SCHEMAS[kind]
    try:
        parsed = schema.model_validate({} if settings is None else settings)
    except ValidationError as error:
        raise _StepProblems(*problems_of(error, schema, (*at, kind))) from None
    stated: dict[str, Any] = {name: getattr(parsed, name) for name in type(parsed).model_fields}
    stated["name"] = stated["name"] or kind
    if isinstance(parsed, ExportStep):
        export = ExportConfig(**{name: stated.pop(name) for name in ExportConfig.model_fields})
        return PipelineStep(kind=kind, export=export, **stated)
    return PipelineStep(kind=kind, **stated)


def _names_meant(entry: Any) -> set[str]:
    if not isinstance(entry, Mapping):
        return set()
    named = {
        str(settings["name"])
        for settings in entry.values()
        if isinstance(settings, Mapping) and "name" in settings
    }
    return named | {str(kind) for kind in entry}


def _check_links(step: PipelineStep, before: list[PipelineStep], unread: set[str], index: int) -> None:
    at = ("steps", index, step.kind)
    earlier = {other.name: other for other in before}
    if not _STEP_NAME.fullmatch(step.name):
        raise _StepProblems(
            Problem((*at, "name"), f"letters, digits, '.', '_' and '-' only, found {shown(step.name)}")
        )
    if step.name == INPUT:
        raise _StepProblems(Problem((*at, "name"), f"'{INPUT}' is the name of the pipeline's own model"))
    if step.name in earlier:
        text = f"a second step named '{step.name}'; give this one its own: {step.kind}: {{name: …}}"
        raise _StepProblems(Problem(at, text))
    if step.from_step is not None and step.from_step not in {*earlier, *unread, INPUT}:
        known = suggestion(step.from_step, earlier) or f"; steps before it: {', '.join(earlier) or 'none'}"
        raise _StepProblems(
            Problem((*at, "from"), f"no earlier step is named {shown(step.from_step)}{known}")
        )
    source = earlier.get(step.from_step) if step.from_step else None
    if source is not None and source.kind == "export":
        raise _StepProblems(Problem((*at, "from"), f"'{source.name}' is an export, which no step can read"))

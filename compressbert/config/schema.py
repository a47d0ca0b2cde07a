"""Settings of every command, built from the sections they share (`sections.py`, re-exported here).

A method's own settings live in its file; here ``method`` is its name and the raw settings, and
`methods/registry.py` finds the method's ``Config`` for them.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from compressbert.config.augment import AugmentConfig
from compressbert.config.kinds import (
    AnswerSettings,
    EmbeddingSettings,
    MaskingSettings,
    PoolingMode,
    Positive,
    Settings,
    TaggingSettings,
    TagScheme,
    TaskKind,
    UnlabelledSettings,
)
from compressbert.config.sections import (
    BenchmarkSettings,
    Columns,
    ComparisonSettings,
    DataConfig,
    DataOverrides,
    ExportConfig,
    Fraction,
    Gates,
    MethodSettings,
    ModelSource,
    ReportConfig,
    Seed,
    Seeds,
    TrainConfig,
    TrainOverrides,
)
from compressbert.config.steps import STEP_KINDS, PipelineStep, parse_steps
from compressbert.config.tracking import Tracking, TrackingConfig

__all__ = [
    "STEP_KINDS",
    "AnswerSettings",
    "AugmentConfig",
    "BenchmarkConfig",
    "BenchmarkSettings",
    "Columns",
    "ComparisonSettings",
    "CompressConfig",
    "DataConfig",
    "DataOverrides",
    "EmbeddingSettings",
    "EvaluateConfig",
    "ExportConfig",
    "ExportStepConfig",
    "FinetuneConfig",
    "Fraction",
    "Gates",
    "MaskingSettings",
    "MethodSettings",
    "ModelSource",
    "PipelineConfig",
    "PipelineStep",
    "PoolingMode",
    "Positive",
    "ReportConfig",
    "Seed",
    "Seeds",
    "Settings",
    "StepConfig",
    "TagScheme",
    "TaggingSettings",
    "TaskKind",
    "Tracking",
    "TrackingConfig",
    "TrainConfig",
    "TrainOverrides",
    "UnlabelledSettings",
    "parse_steps",
]


class StepConfig(Settings):
    """What every single command shares."""

    seed: Seed = Field(0, description="Seed of everything random.")
    output: str | None = Field(None, description="Folder to write; must not exist or be empty.")


class TrainingStepConfig(StepConfig):
    """What the commands that train share."""

    seeds: Seeds = Field(
        1,
        description="Do the work this often, with the seeds seed, seed + 1, …; the first one's model is kept.",
    )


class FinetuneConfig(TrainingStepConfig):
    """Settings of `finetune`."""

    model: ModelSource = Field(description="The model to start from.")
    data: DataConfig = Field(description="What it is trained and scored on.")
    train: TrainConfig = Field(default_factory=TrainConfig, description="How it is trained.")


class CompressConfig(TrainingStepConfig):
    """Settings of `distill`, `prune` and `quantize`. For distill, ``model`` is the teacher."""

    model: ModelSource = Field(description="The model to compress; for distill, the teacher.")
    method: MethodSettings = Field(description="The method and its settings.")
    teacher: ModelSource | None = Field(
        None, description="Teacher of a re-tune; default: the model before compression."
    )
    student: ModelSource | None = Field(
        None,
        description="Where a distilled student starts, in place of a part of its teacher; for methods that say so.",
    )
    data: DataConfig | None = Field(None, description="Data to train and score on; some methods need none.")
    augment: AugmentConfig | None = Field(
        None,
        description="New texts made from the training data's, for methods that learn from a teacher alone.",
    )
    train: TrainOverrides = Field(
        default_factory=dict, description="Training settings over the method's defaults."
    )

    @property
    def others(self) -> dict[str, ModelSource]:
        """The models that are read beside the first one, by what they are: teacher, student, masked_lm."""
        asked = self.augment is not None and self.augment.kind == "masked-lm"
        masked_lm = self.augment.masked_lm.model if asked and self.augment is not None else None
        found = {"teacher": self.teacher, "student": self.student, "masked_lm": masked_lm}
        return {role: source for role, source in found.items() if source is not None}


class ExportStepConfig(StepConfig):
    """Settings of `export`."""

    model: ModelSource = Field(description="The model to export.")
    export: ExportConfig = Field(default_factory=ExportConfig, description="How it is exported.")
    data: DataConfig | None = Field(
        None, description="Training data to calibrate on, and validation data to score the file on."
    )


class EvaluateConfig(StepConfig, ComparisonSettings):
    """Settings of `evaluate`. The model may be a folder or an .onnx file."""

    model: ModelSource = Field(description="A model folder, an export folder or an .onnx file.")
    data: DataConfig = Field(description="What it is scored on.")
    baseline: ModelSource | None = Field(
        None, description="What the model is compared with: a folder or an .onnx file."
    )


class BenchmarkConfig(StepConfig):
    """Settings of `benchmark`. The first model is the baseline."""

    models: tuple[str, ...] = Field(min_length=1, description="Folders or .onnx files, the baseline first.")
    benchmark: BenchmarkSettings = Field(
        default_factory=BenchmarkSettings, description="How latency is measured."
    )
    data: DataConfig | None = Field(None, description="Data whose own lengths are timed too.")


class PipelineConfig(Settings):
    """Settings of `run`: a chain (or tree) of steps. Steps inherit data, train and seed."""

    name: str = Field("pipeline", description="Name of the run.")
    model: ModelSource = Field(description="The model the first step reads.")
    data: DataConfig = Field(description="The data of every step.")
    train: TrainOverrides = Field(default_factory=dict, description="Training settings for every step.")
    seed: Seed = Field(0, description="Seed of everything random.")
    seeds: Seeds = Field(1, description="How often every step that trains is done, with a seed each.")
    steps: tuple[dict[str, dict[str, Any] | None], ...] = Field(
        min_length=1, description="The steps in order, each as KIND: {settings}."
    )
    benchmark: BenchmarkSettings = Field(
        default_factory=BenchmarkSettings, description="How latency is measured."
    )
    report: ReportConfig = Field(default_factory=ReportConfig, description="How the run is reported.")
    gates: Gates = Field(default_factory=Gates, description="Limits the last row must keep.")
    tracking: Tracking = Field(None, description="Where the finished run is logged; default: nowhere.")
    output: str | None = Field(None, description="Run folder; default: runs/NAME.")

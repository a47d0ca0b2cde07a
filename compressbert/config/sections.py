"""The sections settings are made of: model, data, train, method, export, benchmark, report, gates.

Frozen models that refuse unknown keys. Defaults live here and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer

from compressbert.config.kinds import (
    AnswerSettings,
    EmbeddingSettings,
    MaskingSettings,
    Positive,
    Settings,
    TaggingSettings,
    TaskKind,
    UnlabelledSettings,
)

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Seeds = Annotated[int, Field(ge=1, le=100)]


class ModelSource(Settings):
    """Where a model comes from."""

    path: str = Field(description="A model folder, or a name on the hub.")
    revision: str | None = Field(None, description="Branch, tag or commit, for a name on the hub.")
    trust_remote_code: bool = Field(False, description="Allow code from the model's own folder to run.")


class Columns(Settings):
    """Which columns of the data hold what. Unset ones are guessed from the usual names."""

    text: str | None = Field(
        None, description="The text, the first text of a pair, a list of words, or the question."
    )
    text_pair: str | None = Field(
        None, description="The second text of a pair, or the context of a question."
    )
    label: str | None = Field(
        None, description="The label, number, list of labels, list of tags, or answers of a question."
    )


class DataConfig(Settings):
    """The data of a step: local files or a hub data set."""

    task: TaskKind = Field("sequence-classification", description="What the model learns to do.")
    hub: str | None = Field(None, description="A hub data set, as name or name/config (glue/sst2).")
    train: str | None = Field(
        None, description="Training file: csv, tsv, json, jsonl, parquet or txt, also .gz."
    )
    validation: str | None = Field(None, description="Validation file, or a split's name of a hub data set.")
    columns: Columns = Field(default_factory=Columns, description="Column names; guessed when unset.")
    labels: tuple[str, ...] | None = Field(None, description="Label names in the order of their ids.")
    metric: str | None = Field(
        None,
        description="The metric the task is judged by, such as f1; default: GLUE's for a set of GLUE, else "
        "accuracy, pearson, micro_f1 or masked_accuracy.",
    )
    max_length: Positive = Field(
        128,
        description="Longest sequence in word pieces; longer rows are cut and counted, longer contexts of "
        "questions are split.",
    )
    max_train_rows: Positive | None = Field(None, description="Use only the first rows of the training data.")
    max_validation_rows: Positive | None = Field(
        None, description="Use only the first rows of the validation data."
    )
    unlabelled: UnlabelledSettings = Field(
        default_factory=UnlabelledSettings,
        description="Texts without labels, for the methods that read them.",
    )
    tagging: TaggingSettings = Field(
        default_factory=TaggingSettings, description="Of token classification alone."
    )
    answers: AnswerSettings = Field(
        default_factory=AnswerSettings, description="Of question answering alone."
    )
    embedding: EmbeddingSettings = Field(
        default_factory=EmbeddingSettings, description="Of sentence embedding alone."
    )
    masking: MaskingSettings = Field(
        default_factory=MaskingSettings, description="Of masked language modelling alone."
    )


class TrainConfig(Settings):
    """How a model is trained. A method may change these defaults (its ``TRAIN_DEFAULTS``)."""

    epochs: Annotated[float, Field(gt=0)] = Field(
        3.0, description="Passes over the training data; may be a fraction."
    )
    max_steps: Positive | None = Field(None, description="Stop after this many optimizer steps.")
    batch_size: Positive = Field(32, description="Examples per optimizer step and process.")
    gradient_accumulation: Positive = Field(1, description="Batches per optimizer step.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(3e-5, description="Peak learning rate.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        0.01, description="Not applied to biases and LayerNorms."
    )
    adam_epsilon: Annotated[float, Field(gt=0)] = Field(1e-8, description="Epsilon of AdamW.")
    warmup: Fraction = Field(0.1, description="Fraction of the steps over which the learning rate rises.")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="Learning rate after warm-up."
    )
    max_grad_norm: Annotated[float, Field(ge=0)] = Field(1.0, description="Gradient clipping; 0 for none.")
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None,
        description="Dropout of the network meanwhile; unset: its own. 0 fits soft targets best and saves time.",
    )
    freeze_words: bool = Field(
        False,
        description="Do not train word embeddings: words rare in the data stay where they are, and steps are cheaper.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where the hardware has it."
    )
    checkpoint_every: Positive = Field(500, description="Optimizer steps between checkpoints.")
    early_stop: Positive | None = Field(None, description="Stop after this many epochs without improvement.")
    keep: Literal["last", "best"] = Field(
        "last", description="Which epoch's weights to keep; best needs validation."
    )
    average_runs: Positive = Field(
        1,
        description="Train this often from one start, in different orders, and keep the mean of the weights.",
    )


def _written_keys(settings: BaseModel) -> dict[str, Any]:
    return settings.model_dump(exclude_unset=True)


# Settings laid over others: checked like the full settings, kept as the keys that were written.
if TYPE_CHECKING:
    DataOverrides = dict[str, Any]
    TrainOverrides = dict[str, Any]
else:
    DataOverrides = Annotated[DataConfig, AfterValidator(_written_keys), PlainSerializer(lambda keys: keys)]
    TrainOverrides = Annotated[TrainConfig, AfterValidator(_written_keys), PlainSerializer(lambda keys: keys)]


class MethodSettings(BaseModel):
    """A method's name and its raw settings, checked later against the method's own Config."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(description="The method; `compressbert methods` lists them.")

    @property
    def settings(self) -> dict[str, Any]:
        """The settings other than the name."""
        return dict(self.model_extra or {})


class ExportConfig(Settings):
    """How a model is exported."""

    format: Literal["onnx", "openvino"] = Field(
        "onnx", description="The file format; openvino needs the extra of that name."
    )
    target: Literal["any", "transformers-js", "tei", "triton"] = Field(
        "any",
        description="Whose layout to write. any is what onnxruntime, optimum and transformers.js look for; "
        "tei is text-embeddings-inference.",
    )
    precision: Literal["auto", "fp32", "int8", "both", "int4", "int8-weight-only"] = Field(
        "auto",
        description="auto: int8 for an int8 model, else fp32. int8 and both quantize an fp32 model; int4 and "
        "int8-weight-only store weights in blocks of few bits and compute in fp32: for size, not for speed.",
    )
    embeddings: Literal["auto", "fp32", "int8", "int4"] = Field(
        "auto", description="The word table of a quantized file; auto: as its weights, int4 or int8."
    )
    portable: bool = Field(
        True,
        description="int8 products that are exact on CPUs without VNNI too, whose kernels saturate others.",
    )
    activations: Literal["dynamic", "static"] = Field(
        "dynamic",
        description="Ranges of int8 activations: dynamic from each call, static from training rows beforehand.",
    )
    outliers: bool = Field(
        True,
        description="Dynamic int8: divide features that dwarf the others before they are quantized, and multiply "
        "their weights instead.",
    )
    calibration: Positive = Field(
        300, description="Training rows that static int8, and int8 OpenVINO export, take these ranges from."
    )
    percentile: Annotated[float, Field(gt=50, lt=100)] | None = Field(
        None, description="Static ranges hold this percentage of the values (99.99); default: all of them."
    )
    sensitivity: bool = Field(
        False, description="Rank the modules by what int8 in each alone does to the output on training rows."
    )
    max_quality_drop: Annotated[float, Field(ge=0)] | None = Field(
        None,
        description="Keep the most sensitive modules at fp32 until the int8 file loses at most this much of the "
        "metric on the validation rows (0.003 = 0.3 points).",
    )
    opset: Annotated[int, Field(ge=17, le=21)] = Field(17, description="ONNX operator set.")
    optimize: bool = Field(
        True, description="Lossless speed-ups, such as computing only [CLS] in the last layer."
    )
    tune: bool = Field(
        False, description="Time the forms the graph can take on this machine and keep the fastest (minutes)."
    )


class BenchmarkSettings(Settings):
    """How latency is measured."""

    threads: Positive = Field(1, description="Threads of each worker.")
    rounds: Annotated[int, Field(ge=2)] = Field(
        8, description="Interleaved rounds, each in fresh processes; a ratio's interval narrows with more."
    )
    cells: tuple[tuple[Positive, Positive], ...] = Field(
        ((1, 32), (1, 128), (8, 128)), description="Fixed (batch, length) shapes."
    )
    sentences: Positive = Field(
        128, description="Sentences of the data's own lengths per round, one at a time."
    )
    data_batch: Annotated[int, Field(ge=2)] | None = Field(
        None, description="Also time so many texts of the data's own lengths in one padded batch."
    )
    warmup: Positive = Field(
        20,
        description="Calls of a fresh process before its first timing, over all shapes; more until steady.",
    )
    budget_seconds: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Time to spend, in place of a number of rounds; with precision it may end earlier."
    )
    precision: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="Do rounds, 8 at least, until each headline ratio's 95 % interval is at most ± this "
        "fraction wide; 0.03 = 3 %.",
    )


class SliceGates(Settings):
    """Limits on one slice of the validation rows."""

    max_quality_drop: Annotated[float, Field(ge=0)] = Field(description="Metric points lost on this slice.")


class Gates(Settings):
    """Limits a pipeline's last row must keep."""

    max_quality_drop: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Metric points lost, 0.01 = 1 point."
    )
    min_retained: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Candidate metric / baseline metric."
    )
    min_speedup: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Baseline latency / candidate latency."
    )
    max_megabytes: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Size on disk, in 10^6 bytes."
    )
    max_memory_mb: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Peak memory of a worker, in 10^6 bytes."
    )
    max_p95_ms: Annotated[float, Field(gt=0)] | None = Field(
        None, description="95th percentile of latency; judged only on the machine named by `machine`."
    )
    machine: str | None = Field(None, description="Fingerprint of the machine that max_p95_ms was set on.")
    max_flips: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Rows whose prediction may differ from the baseline's."
    )
    max_slice_drop: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Metric points lost on any slice."
    )
    slices: dict[str, SliceGates] = Field(
        default_factory=dict, description="Limits of single slices by name, such as label=negative."
    )
    on_uncertain: Literal["fail", "warn", "measure-more"] = Field(
        "warn",
        description="What a cannot-tell does: fail, pass with a warning, or measure once more and then warn.",
    )
    measure_more_seconds: Annotated[float, Field(gt=0)] = Field(
        120.0, description="Most time that measure-more spends on further rounds."
    )


class ComparisonSettings(Settings):
    """How a candidate is compared with its baseline."""

    slices: tuple[str, ...] = Field(
        ("label", "length"), description="What to slice the validation rows by: label, length, or columns."
    )
    margin: Annotated[float, Field(gt=0)] = Field(
        0.01,
        description="Margin of the non-inferiority statement, in metric points (0.01 = 1 point); of an error "
        "or a perplexity, a fraction of the baseline's.",
    )


class ReportConfig(ComparisonSettings):
    """How a pipeline is reported."""

    baseline: str | None = Field(
        None, description="The step others are compared with; default: finetune, else the input."
    )
    title: str | None = Field(None, description="Heading of the report.")

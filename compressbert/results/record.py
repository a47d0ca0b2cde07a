"""The record of one step: what `result.json` holds. Its JSON Schema ships with the package.

Units are in the names. A quantity that was not measured is None or absent, never a guess.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1


class Record(BaseModel):
    """Base of all records: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Parent(Record):
    """The folder a step read and what it held then."""

    folder: str
    sha256: str


class ModelFacts(Record):
    """Size of a model, by closed count of its tensors."""

    parameters: int = Field(description="Distinct parameters of the whole model, the head included.")
    nonzero_parameters: int
    distinct_tensors: int | None = Field(
        None, description="Tensors that are stored; a shared one counts once."
    )
    encoder_parameters: int = Field(
        description="Parameters of the layers alone, without embeddings and head."
    )
    encoder_nonzero_parameters: int | None = None
    bytes_on_disk: int = Field(description="Bytes of the files needed to run, tokenizer excluded.")
    bytes_by_component: dict[str, int] = Field(description="embeddings, attention, ffn, head, rest.")
    layers: int
    heads_per_layer: tuple[int, ...]
    ffn_per_layer: tuple[int, ...]
    hidden: int
    macs_per_token: int = Field(
        description="Multiply-accumulates per token at length 128, from the actual shapes."
    )


class Interval(Record):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


class MetricResult(Interval):
    """A quality metric on the whole validation split."""

    direction: Literal["higher", "lower"] = "higher"
    examples: int


class LatencyCell(Record):
    """Latency of one shape. ``length`` None means the data's own lengths."""

    runtime: str
    threads: int
    batch: int
    length: int | None
    p50_ms: float
    p95_ms: float
    p99_ms: float | None = None
    p95_low: float | None = Field(None, description="95 % interval of p95_ms, in milliseconds.")
    p95_high: float | None = None
    low: float = Field(description="95 % interval of the median, in milliseconds.")
    high: float
    runs: int
    per_second: float | None = Field(None, description="Texts per second: batch over the mean call.")
    steady: bool = Field(True, description="Whether the warm-up reached a steady state.")


class ColdStart(Record):
    """A fresh process: opening the artefact, and its first answer."""

    load_ms: float
    first_ms: float
    runs: int


class MemoryFacts(Record):
    """Memory of a worker process that loads and runs the artefact."""

    peak_rss_mb: float
    load_rss_mb: float | None = Field(None, description="Peak until the artefact was open.")
    run_rss_mb: float | None = Field(None, description="Peak from then on, while it answered.")


class Conditions(Record):
    """The circumstances of one interleaved timing run."""

    threads: int
    affinity: tuple[int, ...] = Field((), description="Cores the workers were bound to; empty: not bound.")
    rounds: int
    seconds: float
    half_width: float | None = Field(
        None, description="Half width of the widest headline ratio's interval, as a fraction of the ratio."
    )
    load_before: float | None = Field(None, description="Load average over a minute when it began.")
    load_after: float | None = None
    other_cores: float | None = Field(None, description="Cores that other processes kept busy on average.")
    busy: bool = False


class Portability(Record):
    """On which CPUs an int8 file computes what it was checked to compute."""

    valid_on: Literal["any", "vnni"] = Field(
        description="any: exact everywhere. vnni: CPUs without VNNI (or ARM's dot product) saturate products."
    )
    pairs: int = Field(description="Neighbouring int8 weights that such a CPU adds in 16 bits.")
    saturating_pairs: int = Field(description="Those of them that some input would saturate.")
    rescaled_rows: int = Field(0, description="Rows of stored int8 weights that were made exact on the way.")
    quality_without_vnni: dict[str, MetricResult] = Field(
        default_factory=dict,
        description="Quality on a CPU without VNNI, by emulating its products bit for bit.",
    )


class DataFacts(Record):
    """The data a step read."""

    section: dict[str, Any] = Field(description="The data section of its settings.")
    files: dict[str, str] = Field(description="File (or hub name) to its sha256 (or fingerprint).")
    rows: dict[str, int] = Field(description="Split to number of rows.")
    pairs: bool = Field(description="Whether a row has two texts.")


class LineageStep(Record):
    """One step of how a model came about."""

    command: str = Field(description="finetune, distill, prune, quantize, export.")
    method: str | None = None
    settings: dict[str, Any] = Field(description="Of the method, the training or the export.")
    seed: int
    data: DataFacts | None = None
    parent: Parent = Field(description="What it read; `sha256` is hub:NAME@REVISION for a model of the hub.")


class ModuleSensitivity(Record):
    """What int8 in one module alone does to the output."""

    module: str
    divergence: float = Field(description="Mean KL divergence; for a regression squared error over variance.")
    bytes_saved: int = Field(description="By int8 against fp32.")


class Sensitivity(Record):
    """How int8 in single modules moves the output, and what stayed fp32 to keep the quality."""

    rows: int = Field(description="Training rows it was measured on; 0 where nothing had to be ranked.")
    modules: tuple[ModuleSensitivity, ...] = Field((), description="The worst first; empty if not asked for.")
    kept_fp32: tuple[str, ...] = Field((), description="Modules that fell back to fp32.")
    bytes_added: int = Field(0, description="What they cost in the file.")
    max_quality_drop: float | None = Field(None, description="The limit, in points of the primary metric.")
    quality_fp32: float | None = None
    quality_int8: float | None = Field(None, description="With every module at int8.")
    quality_kept: float | None = Field(None, description="With those modules at fp32.")


class Environment(Record):
    """Where the step ran."""

    versions: dict[str, str]
    cpu: str
    isa: tuple[str, ...]
    cores: int
    governor: str | None = Field(None, description="Frequency governor of the first core, where readable.")


class NonInferiority(Record):
    """Whether a candidate is no worse than the baseline by more than ``margin``, by the 95 % interval."""

    margin: float = Field(description="In units of the metric, 0.01 = 1 point; see relative.")
    relative: bool = Field(
        False, description="The margin is a fraction of the baseline: the metric has no points (an error)."
    )
    answer: Literal["yes", "no", "cannot-tell"]


class Slice(Record):
    """A part of the rows: what was lost there, and whether it is more than on the rest of the rows."""

    name: str = Field(description="For example `label=negative`, `length 33-64`, `source=web`.")
    by: str = Field(description="label, length, or a column's name.")
    metric: str = Field("accuracy", description="What is compared: a mean over rows, whatever is primary.")
    examples: int
    baseline: float
    candidate: float
    drop: Interval
    p: float | None = Field(None, description="Of losing no more than the rest, corrected for all slices.")
    worse: bool = False


class SeedSummary(Record):
    """The primary metric over several seeds; the interval holds the variance of seeds and of examples."""

    seeds: tuple[int, ...] = Field(
        (), description="In the order of the values; the first one's model is kept."
    )
    values: tuple[float, ...]
    mean: float
    sd: float
    interval: Interval


class Flip(Record):
    """A row whose predicted label changed."""

    row: int
    text: str
    text_pair: str | None = None
    label: str | None = None
    baseline: str
    candidate: str
    baseline_margin: float = Field(description="Logit of the decision minus the next best, of the baseline.")
    candidate_margin: float


class Comparison(Record):
    """A candidate's primary metric against the baseline's, on the same examples."""

    metric: str
    retained: Interval | None = Field(
        description="Candidate / baseline, upside down where lower is better; None for a baseline <= 0."
    )
    drop: Interval = Field(description="What was lost, in units of the metric; negative is a gain.")
    drops: dict[str, Interval] = Field(
        default_factory=dict, description="What was lost in every metric of the task, by name."
    )
    flips: tuple[int, ...] | None = Field(
        description="Rows whose predicted labels differ; None where nothing is classified."
    )
    newly_wrong: int | None = Field(None, description="Rows that only the baseline gets right.")
    newly_right: int | None = Field(None, description="Rows that only the candidate gets right.")
    mcnemar_p: float | None = Field(None, description="Exact McNemar test; single-label classification only.")
    noninferiority: NonInferiority | None = None
    slices: tuple[Slice, ...] = ()
    worst_flips: tuple[Flip, ...] = ()


class TimedForm(Record):
    """A form of an exported graph and its speed against the default form."""

    form: dict[str, str]
    speedup: float = Field(description="Geometric mean over the shapes; above 1 is faster than the default.")
    speedup_by_cell: dict[str, Interval] = Field(default_factory=dict, description="Cell name to ratio.")
    latency: tuple[LatencyCell, ...] = ()


class SessionSetting(Record):
    """What a program sets in onnxruntime's `SessionOptions`; a file cannot carry it."""

    intra_op_num_threads: int
    allow_spinning: bool = Field(description="The config entry `session.intra_op.allow_spinning`.")


class TimedSession(Record):
    """A setting of the session and how fast the exported file runs with it, against one thread."""

    session: SessionSetting
    speedup: float = Field(description="Geometric mean over the shapes; above 1 is faster than one thread.")
    speedup_by_cell: dict[str, Interval] = Field(default_factory=dict, description="Cell name to ratio.")
    latency: tuple[LatencyCell, ...] = ()


class Tuning(Record):
    """Which form of the graph was kept, which threads suit it, and the timings on this machine that said so."""

    chosen: dict[str, str]
    forms: tuple[TimedForm, ...] = Field(description="The default form first.")
    conditions: Conditions | None = None
    session: SessionSetting | None = Field(
        None, description="The fastest for one request at a time; None where there is one core only."
    )
    session_by_cell: dict[str, SessionSetting] = Field(
        default_factory=dict, description="Cell name to the fastest there."
    )
    sessions: tuple[TimedSession, ...] = Field((), description="One thread first.")
    session_conditions: Conditions | None = None


class StepResult(Record):
    """Content of `result.json`."""

    schema_version: int = SCHEMA_VERSION
    step: str
    command: str
    config: dict[str, Any]
    seed: int
    parent: Parent | None = None
    lineage: tuple[LineageStep, ...] = Field((), description="Every recorded step up to this one, in order.")
    model: ModelFacts | None = None
    quality: dict[str, MetricResult] = Field(default_factory=dict)
    primary_metric: str | None = None
    seeds: SeedSummary | None = Field(None, description="Where several were asked for.")
    comparison: Comparison | None = Field(None, description="With the baseline `evaluate` was given.")
    sensitivity: Sensitivity | None = Field(None, description="Of an int8 export that was asked for it.")
    portability: Portability | None = Field(None, description="Of an int8 file; absent for others.")
    tuning: Tuning | None = Field(None, description="Of an export with `tune`.")
    latency: tuple[LatencyCell, ...] = ()
    memory: MemoryFacts | None = None
    training: tuple[dict[str, float], ...] = Field((), description="Logged steps: step, loss and its parts.")
    notes: tuple[str, ...] = Field((), description="What the step said that a reader should know.")
    environment: Environment
    seconds: float
    files: dict[str, str] = Field(description="Path in the folder to sha256.")

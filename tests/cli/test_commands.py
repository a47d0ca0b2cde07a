"""Each command: what it hands on, what it prints, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from compressbert.errors import InputError
from compressbert.methods.registry import list_methods
from compressbert.results.record import (
    Comparison,
    Flip,
    Interval,
    MetricResult,
    NonInferiority,
    SeedSummary,
    Slice,
)
from tests.cli.support import Step, invoke, stand_in, step_result

STEPS = "compressbert.pipeline.steps"
PRUNE = ("prune", "--model", "m", "--method", "michel", "-o", "o")


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Step:
    made = Step()
    for name in ("finetune", "compress", "export", "evaluate"):
        stand_in(monkeypatch, f"{STEPS}.{name}", **{name: made})
    return made


def test_options_alone_are_enough(step: Step) -> None:
    result = invoke("quantize", "--model", "runs/teacher", "--method", "dynamic_int8", "-o", "out-folder")
    assert result.exit_code == 0, result.output
    ((kind, config), options) = step.calls[0]
    assert (kind, options) == ("quantize", {"overwrite": False})
    assert (config.model.path, config.method.name, config.output) == (
        "runs/teacher",
        "dynamic_int8",
        "out-folder",
    )
    assert config.data is None


def test_data_names_the_split_the_command_works_on(step: Step) -> None:
    shared = ("--model", "m", "--data", "x.csv", "--columns", "text=a,label=b")
    for arguments in (
        ("finetune", *shared, "-o", "o", "--validation", "v.csv"),
        ("prune", *shared, "-o", "o", "--method", "michel"),
        ("quantize", *shared, "-o", "o", "--method", "dynamic_int8"),
        ("evaluate", *shared),
        ("evaluate", "--model", "m", "--data", "glue/sst2"),
    ):
        assert invoke(*arguments).exit_code == 0
    found = [call[0][-1].data for call in step.calls]
    assert [(data.train, data.validation, data.hub) for data in found] == [
        ("x.csv", "v.csv", None),
        ("x.csv", None, None),
        (None, "x.csv", None),
        (None, "x.csv", None),
        (None, None, "glue/sst2"),
    ]
    assert (found[0].columns.text, found[0].columns.label, found[0].columns.text_pair) == ("a", "b", None)


def test_file_options_and_overrides_in_that_order(step: Step, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("model: {path: file}\ndata: {train: t.csv}\noutput: file\ntrain: {epochs: 1}\n")
    result = invoke(
        "finetune", file, "--model", "option", "--set", "train.epochs=2", "--set", "seed=7", "--overwrite"
    )
    assert result.exit_code == 0, result.output
    ((config,), options) = step.calls[0]
    assert (config.model.path, config.output, config.train.epochs, config.seed) == ("option", "file", 2.0, 7)
    assert options == {"overwrite": True}


def test_a_config_from_standard_input(step: Step) -> None:
    assert invoke("export", "-", "--precision", "int8", stdin="model: {path: m}\noutput: o\n").exit_code == 0
    ((config,), _) = step.calls[0]
    assert (config.model.path, config.export.precision) == ("m", "int8")


def test_the_result_as_a_table_and_as_json(step: Step) -> None:
    arguments = ("export", "--model", "m", "-o", "out-folder")
    table = invoke(*arguments)
    assert [line.rstrip() for line in table.stdout.splitlines()] == [
        "accuracy     89.11 % [87.00, 91.17] (872 examples)",
        "size         4.2 MB (embeddings 2.0, attention 2.2)",
        "parameters   1,000 (100 of them zero)",
        "layers       2, width 32",
        "heads        3 1",
        "FFN neurons  64 in each layer",
        "time         12.3 s",
        "written to   out-folder",
    ]
    printed = invoke(*arguments, "--json")
    assert json.loads(printed.stdout) == step_result().model_dump(mode="json")


def test_dry_run_shows_the_settings_and_does_nothing(step: Step, tmp_path: Path) -> None:
    target = tmp_path / "out"
    arguments = ("export", "--model", "m", "-o", target, "--dry-run")
    result = invoke(*arguments)
    assert result.exit_code == 0
    head, _, settings = result.stdout.partition("\n")
    assert head == f"export would write {target}, with these settings:"
    assert yaml.safe_load(settings)["export"]["format"] == "onnx"
    document = json.loads(invoke(*arguments, "--json").stdout)
    assert (document["dry_run"], document["command"], document["config"]["model"]["path"]) == (
        True,
        "export",
        "m",
    )
    assert step.calls == []
    assert not target.exists()


def test_an_output_folder_that_is_not_empty_is_refused_before_the_work(step: Step, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("x")
    for extra in ((), ("--dry-run",)):
        result = invoke("export", "--model", "m", "-o", tmp_path, *extra)
        assert result.exit_code == 2
        assert f"output folder {tmp_path} is not empty" in result.stderr
        assert "--overwrite" in result.stderr
    assert step.calls == []
    assert invoke("export", "--model", "m", "-o", tmp_path, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("quantize",), "quantize was given no settings"),
        (("quantize", "--model", "m", "--method", "dynamic_int8"), "no output folder was given"),
        (("quantize", "--model", "m", "--method", "dynamic_in8", "-o", "o"), "did you mean 'dynamic_int8'?"),
        (("quantize", "--model", "m", "--method", "michel", "-o", "o"), "belongs to prune, not to quantize"),
        ((*PRUNE, "--set", "method.kep=1"), "did you mean 'keep'?"),
        ((*PRUNE, "--set", "method.keep=0"), "--set method.keep=0: "),
        (("evaluate", "--model", "m"), "data: is required"),
        (("evaluate", "--model", "m", "--data", "x.csv", "--columns", "text"), "expected names such as"),
        (("evaluate", "--model", "m", "--data", "x.csv", "--columns", "txt=a"), "did you mean 'text'?"),
        (("evaluate", "absent.yaml"), "absent.yaml: no such config file"),
        (("export", "--model", "m", "-o", "o", "--set", "nonsense"), "expected key.path=value"),
        (("benchmark", "--threads", "1"), "models: is required"),
        (("run",), "Missing argument"),
        (("prun",), "No such command 'prun'"),
        (("prune", "--nonsense"), "No such option: --nonsense"),
        (("schema", "prun"), "did you mean 'prune'?"),
        (("init", "prun"), "did you mean 'prune'?"),
        (("check", "x.yaml", "--command", "prun"), "did you mean 'prune'?"),
        (("methods", "michell"), "did you mean 'michel'?"),
    ],
)  # fmt: skip
def test_usage_errors_say_what_was_meant(step: Step, arguments: tuple[str, ...], message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""
    printed = json.loads(invoke(*arguments, "--json").stdout)
    assert (printed["schema_version"], printed["error"]["exit_code"]) == (1, 2)
    assert message in printed["error"]["message"]
    assert step.calls == []


CONDITIONS = {
    "threads": 1, "affinity": [1], "rounds": 8, "seconds": 43.2, "half_width": 0.012, "load_before": 0.4,
    "load_after": 1.1, "other_cores": 0.04, "busy": False,
}  # fmt: skip


class Benchmark:
    def __init__(self, config: Any, *, conditions: dict[str, Any] = CONDITIONS, steady: bool = True) -> None:
        self.config, self.conditions, self.steady = config, conditions, steady

    def to_json(self) -> dict[str, Any]:
        fixed = {
            "batch": 8, "length": 128, "p50_ms": 1234.5, "p95_ms": 1300.0, "p99_ms": 1310.0, "per_second": 6.48,
            "steady": self.steady,
        }  # fmt: skip
        own = fixed | {
            "batch": 1,
            "length": None,
            "p50_ms": 12.5,
            "p95_ms": 20.04,
            "per_second": 79.9,
            "steady": True,
        }
        speedups = {
            "8x128": {"value": 2.5, "low": 2.4, "high": 2.6},
            "data": {"value": 2.0, "low": 1.9, "high": 2.1},
        }
        rows = [
            {
                "name": name,
                "runtime": "onnxruntime",
                "latency": [fixed, own],
                "bytes_on_disk": 90_900_000,
                "memory": {"peak_rss_mb": 210.4, "load_rss_mb": 210.4, "run_rss_mb": 154.0},
                "cold_start": {"load_ms": 312.4, "first_ms": 9.3, "runs": 8},
                "tokenizer_ms": tokenizer,
                "speedup": ratios.get("data"),
                "speedup_by_cell": ratios,
            }
            for name, ratios, tokenizer in zip(
                self.config.models, ({}, speedups), (0.0712, None), strict=True
            )
        ]
        machine = "intel-xeon-2-cores-1a2b3c4d"
        return {
            "schema_version": 1,
            "machine": machine,
            "conditions": self.conditions,
            "fastest": [],
            "rows": rows,
        }


BENCHMARK_TABLES = """\
   shape        p50 ms   p95   p99  texts/s           speed-up
a  data's lengths    12.5  20.0  1310       80           baseline
   8 × 128          1234  1300  1310      6.5           baseline
b  data's lengths    12.5  20.0  1310       80  2.00× [1.90, 2.10]
   8 × 128          1234  1300  1310      6.5  2.50× [2.40, 2.60]

   runtime        MB  load ms  first ms  tokenizer ms  peak MB loading  answering
a  onnxruntime  90.9      312      9.30         0.071              210        154
b  onnxruntime  90.9      312      9.30             –              210        154

threads          1, bound to core 1
rounds           8, interleaved, in 43 s
precision        ratios to within ± 1.2 %
load average     0.40 before, 1.10 after
other processes  kept 0.04 cores busy
machine          quiet
fingerprint      intel-xeon-2-cores-1a2b3c4d
"""


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_benchmark_of_models_or_of_a_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Any] = []

    def benchmark(config: Any, *, overwrite: bool = False) -> Benchmark:
        seen.append(config)
        return Benchmark(config)

    stand_in(monkeypatch, f"{STEPS}.benchmark", benchmark=benchmark)
    options = ("--data", "v.csv", "--threads", "2", "--budget-seconds", "60", "--precision", "0.03")
    result = invoke("benchmark", "a", "b", *options)
    assert words(result.stdout) == words(BENCHMARK_TABLES)
    assert (seen[0].benchmark.budget_seconds, seen[0].benchmark.precision) == (60.0, 0.03)
    assert (seen[0].models, seen[0].benchmark.threads, seen[0].data.validation) == (("a", "b"), 2, "v.csv")
    file = tmp_path / "b.yaml"
    file.write_text("models: [a, b]\nbenchmark: {rounds: 3}\n")
    document = json.loads(invoke("benchmark", file, "--json").stdout)
    assert document["rows"][1]["speedup"]["value"] == 2.0
    assert seen[1].benchmark.rounds == 3
    assert "would write no folder" in invoke("benchmark", "a", "b", "--dry-run").stdout
    assert len(seen) == 2


def test_benchmark_marks_a_busy_machine_and_unsettled_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    def benchmark(config: Any, *, overwrite: bool = False) -> Benchmark:
        return Benchmark(config, conditions=CONDITIONS | {"other_cores": 1.3, "busy": True}, steady=False)

    stand_in(monkeypatch, f"{STEPS}.benchmark", benchmark=benchmark)
    lines = words(invoke("benchmark", "a", "b").stdout)
    assert "busy:" in next(line for line in lines if line[:1] == ["machine"])
    assert [line[3] for line in lines if line[:3] == ["8", "×", "128"]] == ["~1234", "~1234"]
    assert ["~", "calls", "had", "not", "settled", "when", "warming", "up", "was", "given", "up"] in lines


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 4)])
def test_verify_fails_when_a_loader_does(monkeypatch: pytest.MonkeyPatch, ok: bool, code: int) -> None:
    class Verified:
        def __init__(self) -> None:
            self.ok = ok

        def to_json(self) -> dict[str, Any]:
            row = {
                "loader": "onnxruntime",
                "status": "ok" if ok else "failed",
                "max_difference": 1.2e-6,
                "detail": "[x]",
            }
            return {"schema_version": 1, "ok": ok, "rows": [row]}

    stand_in(monkeypatch, f"{STEPS}.verify", verify=lambda folder: Verified())
    result = invoke("verify", "folder")
    assert result.exit_code == code
    assert result.stdout.splitlines()[1].split() == [
        "onnxruntime",
        "ok" if ok else "failed",
        "1.2e-06",
        "[x]",
    ]
    assert json.loads(invoke("verify", "folder", "--json").stdout)["ok"] is ok


def test_a_missing_input_is_exit_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(
        monkeypatch, f"{STEPS}.evaluate", evaluate=Step(InputError("no model at m", hint="Give [a] folder."))
    )
    result = invoke("evaluate", "--model", "m", "--data", "v.csv")
    assert (result.exit_code, result.stderr) == (3, "error: no model at m\nGive [a] folder.\n")


class TestInitAndCheck:
    COMMANDS = ("finetune", "distill", "prune", "quantize", "export", "evaluate", "benchmark", "run")

    @pytest.mark.parametrize("command", COMMANDS)
    def test_a_starter_config_is_valid_as_written_and_with_every_setting_uncommented(
        self, command: str, tmp_path: Path
    ) -> None:
        text = invoke("init", command).stdout
        file = tmp_path / "starter.yaml"
        file.write_text(text)
        checked = invoke("check", file)
        assert (checked.exit_code, checked.stdout) == (0, f"ok: settings of {command}\n"), checked.output
        lines = text.splitlines()
        settings = [
            line for line in lines if line.lstrip().startswith("#") and not line.lstrip().startswith("# ")
        ]
        assert len(settings) > 3
        file.write_text("\n".join(line.replace("#", "", 1) if line in settings else line for line in lines))
        everything = invoke("check", file, "--command", command)
        assert everything.exit_code == 0, everything.output

    def test_the_defaults_shown_are_those_of_the_method(self) -> None:
        text = invoke("init", "prune", "--method", "width").stdout
        assert "  #learning_rate: 0.0001\n" in text
        assert "  #hidden_keep: 1.0\n" in text

    def test_a_file_is_not_replaced_unasked(self, tmp_path: Path) -> None:
        file = tmp_path / "c.yaml"
        assert invoke("init", "export", "-o", file).exit_code == 0
        written = file.read_text()
        assert invoke("init", "export", "-o", file).exit_code == 2
        assert invoke("init", "export", "-o", file, "--overwrite").exit_code == 0
        assert file.read_text() == written

    def test_check_reports_every_problem_with_its_line(self, tmp_path: Path) -> None:
        file = tmp_path / "c.yaml"
        file.write_text(
            "model: {path: m}\ndata: {hub: h}\nstep: []\n"
            "steps:\n  - prune: {method: {name: michel, kep: 1}}\n"
        )
        result = invoke("check", file)
        assert result.exit_code == 2
        assert result.stderr.replace(str(tmp_path), "") == (
            "error:\n"
            "/c.yaml:3:1: step: unknown key (did you mean 'steps'?)\n"
            "/c.yaml:5:36: steps.0.prune.method.kep: unknown key (did you mean 'keep'?)\n"
        )


class TestMethodsAndSchema:
    def test_every_method_is_listed(self) -> None:
        table = invoke("methods").stdout
        listed = json.loads(invoke("methods", "--json").stdout)["methods"]
        assert [entry["name"] for entry in listed] == [info.name for info in list_methods()]
        assert all(entry["name"] in table and entry["paper"] for entry in listed)

    def test_one_method_with_its_settings(self) -> None:
        page = invoke("methods", "michel").stdout
        assert "compressbert prune --method michel" in page
        assert "1905.10650" in page
        document = json.loads(invoke("methods", "michel", "--json").stdout)
        assert {"name": "scope", "default": "global"}.items() <= document["settings"][1].items()

    @pytest.mark.parametrize(
        "what", ["finetune", "distill", "prune", "quantize", "export", "evaluate", "benchmark", "run"]
    )
    def test_the_schema_takes_the_starter_and_refuses_a_misspelling(self, what: str) -> None:
        import jsonschema

        schema = json.loads(invoke("schema", what).stdout)
        jsonschema.Draft202012Validator.check_schema(schema)
        document = yaml.safe_load(invoke("init", what).stdout)
        jsonschema.validate(document, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**document, "outptu": "x"}, schema)
        if "method" in document:
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate({**document, "method": {**document["method"], "kep": 1}}, schema)
        jsonschema.validate({"base": "other.yaml"}, schema)

    def test_the_pipeline_schema_knows_each_kind_of_step(self) -> None:
        import jsonschema

        schema = json.loads(invoke("schema", "run").stdout)
        document = yaml.safe_load(invoke("init", "run").stdout)
        for step in (
            {"prun": {}},
            {"prune": {"method": {"name": "distilbert"}}},
            {"export": {"format": "x"}},
        ):
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate({**document, "steps": [step]}, schema)
        jsonschema.validate({**document, "steps": [{"finetune": None}]}, schema)

    def test_all_schemas_at_once(self) -> None:
        assert set(json.loads(invoke("schema").stdout)) == {
            *TestInitAndCheck.COMMANDS,
            "result",
            "report",
            "regression",
        }


def test_seeds_and_a_baseline_are_handed_on(step: Step) -> None:
    assert invoke("finetune", "--model", "m", "--data", "x.csv", "--seeds", 3, "-o", "o").exit_code == 0
    assert invoke(*PRUNE, "--data", "x.csv", "--seeds", 2).exit_code == 0
    assert invoke("evaluate", "--model", "m", "--baseline", "b.onnx", "--data", "x.csv").exit_code == 0
    found = [call[0][-1] for call in step.calls]
    assert (found[0].seeds, found[1].seeds, found[2].baseline.path) == (3, 2, "b.onnx")
    result = invoke("finetune", "--model", "m", "--data", "x.csv", "--seeds", 0, "-o", "o")
    assert result.exit_code == 2


def test_a_comparison_in_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    quality = {
        "accuracy": MetricResult(value=0.89, low=0.87, high=0.91, examples=872),
        "precision[bad]": MetricResult(value=0.9, low=0.88, high=0.92, examples=872),
        "recall[bad]": MetricResult(value=0.8, low=0.7, high=0.85, examples=872),
    }
    lost = Interval(value=0.01, low=-0.002, high=0.022)
    comparison = Comparison(
        metric="accuracy", retained=Interval(value=0.989, low=0.97, high=1.002), drop=lost,
        drops={"accuracy": lost}, flips=(1, 2, 3), newly_wrong=2, newly_right=1, mcnemar_p=0.25,
        noninferiority=NonInferiority(margin=0.01, answer="cannot-tell"),
        slices=(
            Slice(
                name="label=bad", by="label", examples=400, baseline=0.9, candidate=0.8,
                drop=Interval(value=0.1, low=0.05, high=0.15), p=0.002, worse=True,
            ),
        ),
        worst_flips=(
            Flip(
                row=7, text="[bold]x", label="bad", baseline="bad", candidate="good", baseline_margin=0.5,
                candidate_margin=2.25,
            ),
        ),
    )  # fmt: skip
    result = step_result().model_copy(update={"quality": quality, "comparison": comparison, "model": None})

    def evaluate(settings: Any, *, overwrite: bool) -> Any:
        return result

    stand_in(monkeypatch, f"{STEPS}.evaluate", evaluate=evaluate)
    arguments = ("evaluate", "--model", "m", "--baseline", "runs/teacher", "--data", "x.csv")
    shown = [line.rstrip() for line in invoke(*arguments).stdout.splitlines()]
    assert shown == [
        "accuracy  89.00 % [87.00, 91.00] (872 examples)",
        "time      12.3 s",
        "",
        "label             precision                recall",
        "bad    90.00 [88.00, 92.00]  80.00 [70.00, 85.00]",
        "",
        "against runs/teacher",
        "lost                        +1.00 [-0.20, +2.20] points of accuracy; less than 0 is a gain",
        "retained                    98.90 [97.00, 100.20] %",
        "no more than 1 point worse  cannot tell",
        "flips                       3 of 872 rows: 2 newly wrong, 1 newly right (McNemar's p 0.250)",
        "",
        "metric    baseline            this model                  lost",
        "accuracy     90.00  89.00 [87.00, 91.00]  +1.00 [-0.20, +2.20]",
        "",
        "slice      rows  baseline  this model                    lost      p",
        "label=bad   400      90.0        80.0  +10.00 [+5.00, +15.00]  0.002  loses more than the rest",
        "",
        "row  label  baseline  this model  text",
        "  7  bad    bad 0.5   good 2.2    [bold]x",
    ]
    printed = json.loads(invoke(*arguments, "--json").stdout)
    assert printed == result.model_dump(mode="json")


def test_seeds_in_the_terminal(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = SeedSummary(
        seeds=(0, 1),
        values=(0.9, 0.88),
        mean=0.89,
        sd=0.0141,
        interval=Interval(value=0.89, low=0.7, high=0.99),
    )
    result = step_result().model_copy(update={"seeds": seeds})
    stand_in(monkeypatch, f"{STEPS}.finetune", finetune=lambda settings, *, overwrite: result)
    shown = invoke("finetune", "--model", "m", "--data", "x.csv", "--seeds", 2, "-o", "o").stdout
    assert "seeds        accuracy 89.00 ± 1.41 % over 2 seeds [70.00, 99.00]" in shown

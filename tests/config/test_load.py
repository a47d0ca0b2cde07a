"""Settings from files, options and overrides, and everything that is wrong with them at once."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from compressbert.config.document import Document
from compressbert.config.load import load_document, parse_method, validate, validate_pipeline
from compressbert.config.problems import Place
from compressbert.config.schema import (
    CompressConfig,
    EvaluateConfig,
    FinetuneConfig,
    MethodSettings,
    PipelineConfig,
    Settings,
    parse_steps,
)
from compressbert.errors import ConfigError


class HeadSettings(Settings):
    keep: float = 0.6
    scope: str = "global"


def method_schema(name: str) -> type[BaseModel]:
    if name == "michel":
        return HeadSettings
    raise ConfigError(f"unknown method '{name}' (did you mean 'michel'?)")


def step_method_schema(kind: str, name: str) -> type[BaseModel]:
    return method_schema(name)


def write(folder: Path, text: str, name: str = "c.yaml") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def lines_of(error: pytest.ExceptionInfo[ConfigError], folder: Path) -> list[str]:
    return error.value.message.replace(f"{folder}/", "").splitlines()


def test_numbers_and_names_reach_the_settings_as_meant(tmp_path: Path) -> None:
    text = (
        "model: {path: m}\ndata: {train: t.csv, labels: [no, yes]}\ntrain: {learning_rate: 2e-5, epochs: 2}\n"
    )
    settings = validate(load_document(write(tmp_path, text)), FinetuneConfig)
    assert settings.train.learning_rate == 2e-5
    assert settings.data.labels == ("no", "yes")
    assert settings.train.epochs == 2.0


def test_all_problems_are_reported_at_once_with_line_and_suggestion(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "model: {path: m, revison: x}\n"
        "data:\n"
        "  task: sequence-clasification\n"
        "  max_length: zero\n"
        "method:\n"
        "  name: michel\n"
        "  keap: 0.5\n"
        "train: {epochs: -1}\n"
        "sed: 3\n"
        "sed: 4\n",
    )
    with pytest.raises(ConfigError) as caught:
        validate(load_document(file), CompressConfig, method_schema=method_schema)
    assert lines_of(caught, tmp_path) == [
        "c.yaml:1:18: model.revison: unknown key (did you mean 'revision'?)",
        "c.yaml:3:3: data.task: should be 'sequence-classification', 'regression', 'multi-label', "
        "'token-classification', 'question-answering', 'sentence-embedding' or 'masked-lm', found "
        "'sequence-clasification' (did you mean 'sequence-classification'?)",
        "c.yaml:4:3: data.max_length: should be a valid integer, unable to parse string as an integer, "
        "found 'zero'",
        "c.yaml:7:3: method.keap: unknown key (did you mean 'keep'?)",
        "c.yaml:8:9: train.epochs: should be greater than 0, found -1",
        "c.yaml:9:1: sed: unknown key (did you mean 'seed'?)",
        "c.yaml:10:1: sed: written twice (first at c.yaml:9:1)",
    ]


def test_an_unknown_method_and_a_missing_section_are_reported_together(tmp_path: Path) -> None:
    file = write(tmp_path, "method: {name: michell}\n")
    with pytest.raises(ConfigError) as caught:
        validate(load_document(file), CompressConfig, method_schema=method_schema)
    assert lines_of(caught, tmp_path) == [
        "c.yaml: model: is required: the model to compress; for distill, the teacher",
        "c.yaml:1:10: method.name: unknown method 'michell' (did you mean 'michel'?)",
    ]


def test_a_section_that_is_no_mapping_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(load_document(write(tmp_path, "model: m\ndata:\n")), FinetuneConfig)
    assert lines_of(caught, tmp_path) == [
        "c.yaml:1:1: model: should be a mapping of keys, found 'm'",
        "c.yaml:2:1: data: should be a mapping of keys, found None",
    ]


@given(
    st.lists(
        st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12), min_size=1, max_size=8, unique=True
    )
)
def test_every_unknown_key_is_reported(keys: list[str]) -> None:
    known = set(EvaluateConfig.model_fields)
    unknown = [key for key in keys if key not in known]
    data: dict[str, Any] = {"model": {"path": "m"}, "data": {"hub": "h"}, **dict.fromkeys(unknown, 1)}
    document = Document(data, {(): Place("c.yaml")})
    if not unknown:
        assert validate(document, EvaluateConfig).model.path == "m"
        return
    with pytest.raises(ConfigError) as caught:
        validate(document, EvaluateConfig)
    reported = {line.split(": ")[1] for line in caught.value.message.splitlines()}
    assert reported == set(unknown)


class TestFiles:
    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"no such config file") as caught:
            load_document(tmp_path / "absent.yaml")
        assert caught.value.hint

    def test_a_folder_is_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="expected a YAML file, found a folder"):
            load_document(tmp_path)

    def test_standard_input(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"seed: 3\n")))
        document = load_document("-")
        assert document.data == {"seed": 3}
        assert str(document.place(("seed",))) == "<stdin>:1:1"

    def test_no_file_at_all(self) -> None:
        assert load_document(None).data == {}


class TestBase:
    def test_the_base_is_below_and_every_key_keeps_its_place(self, tmp_path: Path) -> None:
        write(
            tmp_path,
            "model: {path: m}\ntrain: {epochs: 1, batch_size: 8}\nlist: [1, 2]\n",
            "shared/base.yaml",
        )
        file = write(tmp_path, "base: shared/base.yaml\ntrain:\n  epochs: 2\nlist: [3]\n")
        document = load_document(file)
        assert document.data == {"model": {"path": "m"}, "train": {"epochs": 2, "batch_size": 8}, "list": [3]}
        assert str(document.place(("train", "batch_size"))).endswith("base.yaml:2:20")
        assert str(document.place(("train", "epochs"))).endswith("c.yaml:3:3")
        assert ("list", 1) not in document.places

    def test_bases_are_relative_to_the_file_that_names_them(self, tmp_path: Path) -> None:
        write(tmp_path, "a: 1\n", "deep/x/root.yaml")
        write(tmp_path, "base: x/root.yaml\nb: 2\n", "deep/middle.yaml")
        assert load_document(write(tmp_path, "base: deep/middle.yaml\nc: 3\n")).data == {
            "a": 1,
            "b": 2,
            "c": 3,
        }

    def test_another_method_replaces_the_section(self, tmp_path: Path) -> None:
        write(tmp_path, "method: {name: distilbert, layers: 3}\n", "base.yaml")
        same = write(tmp_path, "base: base.yaml\nmethod: {select: first}\n", "same.yaml")
        other = write(tmp_path, "base: base.yaml\nmethod: {name: michel, keep: 0.5}\n", "other.yaml")
        assert load_document(same).data["method"] == {"name": "distilbert", "layers": 3, "select": "first"}
        assert load_document(other).data["method"] == {"name": "michel", "keep": 0.5}

    def test_a_circle_is_refused(self, tmp_path: Path) -> None:
        write(tmp_path, "base: ./b.yaml\n", "a.yaml")
        write(tmp_path, "base: a.yaml\n", "b.yaml")
        with pytest.raises(ConfigError, match=r"b\.yaml:1:1: base: a file cannot inherit from itself"):
            load_document(tmp_path / "a.yaml")

    def test_a_missing_base_names_who_wants_it(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"gone\.yaml: no such config file, named as base by .*c\.yaml"):
            load_document(write(tmp_path, "base: gone.yaml\n"))

    def test_a_base_must_be_a_name(self, tmp_path: Path) -> None:
        with pytest.raises(
            ConfigError, match=r"c\.yaml:1:1: base: expected the name of a YAML file, found 3"
        ):
            load_document(write(tmp_path, "base: 3\n"))


class TestOverrides:
    def test_values_are_typed_as_yaml(self) -> None:
        pairs = [
            "train.learning_rate=2e-5",
            "data.labels=[no, yes]",
            "seed=3",
            "data.hub=a=b",
            "train.max_steps=",
        ]
        data = load_document(None, pairs).data
        assert data["train"] == {"learning_rate": 2e-5, "max_steps": None}
        assert data["data"] == {"labels": ["no", "yes"], "hub": "a=b"}
        assert data["seed"] == 3

    def test_list_items_are_reached_by_index(self, tmp_path: Path) -> None:
        file = write(tmp_path, "steps:\n  - prune: {method: {name: michel}}\n")
        document = load_document(file, ["steps.0.prune.method.keep=0.5"])
        assert document.data["steps"][0] == {"prune": {"method": {"name": "michel", "keep": 0.5}}}

    def test_options_lie_between_file_and_overrides(self, tmp_path: Path) -> None:
        file = write(tmp_path, "output: file\nseed: 1\n")
        options = {"--output": ("output", "option"), "--model": ("model.path", None)}
        document = load_document(file, ["seed=2"], options)
        assert document.data == {"output": "option", "seed": 2}
        assert load_document(file, ["output=set"], options).data["output"] == "set"

    def test_a_section_written_empty_can_be_filled(self, tmp_path: Path) -> None:
        assert load_document(write(tmp_path, "train:\n"), ["train.epochs=1"]).data == {"train": {"epochs": 1}}

    def test_problems_name_the_override(self) -> None:
        document = load_document(None, ["train.epocs=2", "model.path=m", "data.hub=h"])
        with pytest.raises(ConfigError) as caught:
            validate(document, FinetuneConfig)
        assert caught.value.message == (
            "--set train.epocs=2: train.epocs: unknown key (did you mean 'epochs'?)"
        )

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("train.epochs", "expected key.path=value"),
            ("=3", "expected key.path=value"),
            ("a..b=3", "expected key.path=value"),
            ("steps.5.prune=1", "steps is a list of 1"),
            ("steps.x=1", "steps is a list of 1"),
            ("name.deeper=1", "name is 'n', which has no key 'deeper' below it"),
            ("seed=[1", "--set seed=[1:1:3: not YAML"),
            ("seed=!!python/name:os.system x", "is refused"),
        ],
    )
    def test_overrides_that_do_not_fit(self, tmp_path: Path, override: str, message: str) -> None:
        file = write(tmp_path, "name: n\nsteps: [{prune: {}}]\n")
        with pytest.raises(ConfigError) as caught:
            load_document(file, [override])
        assert message in caught.value.message


PIPELINE = """\
model: {path: m}
data: {hub: glue/sst2}
steps:
  - finetune:
  - distill: {method: {name: michel, keep: 0.5}, train: {epochs: 2}}
  - prune: {method: {name: michel}, from: finetune, name: other}
  - export: {precision: int8}
"""


class TestPipelines:
    def check(self, folder: Path, text: str) -> PipelineConfig:
        return validate_pipeline(load_document(write(folder, text)), method_schema=step_method_schema)

    def test_steps_carry_what_they_state(self, tmp_path: Path) -> None:
        finetune, distill, prune, export = parse_steps(self.check(tmp_path, PIPELINE))
        assert (finetune.kind, finetune.name, finetune.train, finetune.method) == (
            "finetune",
            "finetune",
            {},
            None,
        )
        assert distill.method == MethodSettings(name="michel", keep=0.5)
        assert distill.train == {"epochs": 2.0}
        assert (prune.name, prune.from_step, prune.kind) == ("other", "finetune", "prune")
        assert export.export is not None
        assert export.export.precision == "int8"

    def test_everything_wrong_with_the_steps_has_its_line(self, tmp_path: Path) -> None:
        text = (
            "model: {path: m}\n"
            "data: {hub: h}\n"
            "steps:\n"
            "  - finetuen: {}\n"
            "  - distill: {method: {name: michle}, train: {epoch: 1}}\n"
            "  - prune: {method: {name: michel, keep: x}, from: distil}\n"
            "  - prune: {method: {name: michel}}\n"
            "  - prune: {method: {name: michel}}\n"
            "  - export: {format: onx}\n"
            "  - {prune: {}, export: {}}\n"
            "gates: {min_speed: 1}\n"
        )
        with pytest.raises(ConfigError) as caught:
            self.check(tmp_path, text)
        lines = "\n".join(lines_of(caught, tmp_path))
        for expected in (
            "c.yaml:4:5: steps.0.finetuen: unknown kind of step (did you mean 'finetune'?)",
            "c.yaml:5:24: steps.1.distill.method.name: unknown method 'michle'",
            "c.yaml:5:47: steps.1.distill.train.epoch: unknown key (did you mean 'epochs'?)",
            "c.yaml:6:36: steps.2.prune.method.keep: should be a valid number",
            "c.yaml:6:46: steps.2.prune.from: no earlier step is named 'distil'",
            "c.yaml:8:5: steps.4.prune: a second step named 'prune'",
            "c.yaml:9:14: steps.5.export.format: should be 'onnx'",
            "c.yaml:10:5: steps.6: a step is one of",
            "c.yaml:11:9: gates.min_speed: unknown key (did you mean 'min_speedup'?)",
        ):
            assert expected in lines, lines

    @pytest.mark.parametrize(
        ("steps", "message"),
        [
            ("[]", "steps: tuple should have at least 1 item"),
            ("[{prune: {method: {name: michel}, name: ../x}}]", "letters, digits"),
            ("[{prune: {method: {name: michel}, name: input}}]", "the name of the pipeline's own model"),
            (
                "[{export: {}}, {prune: {method: {name: michel}, from: export}}]",
                "is an export, which no step can read",
            ),
            ("[{prune: {}}]", "steps.0.prune.method: is required"),
            ("[{prune: 3}]", "steps.0.prune: should be a mapping"),
            ("[3]", "a step is one of"),
            ("3", "steps: should be a valid tuple"),
        ],
    )
    def test_steps_that_cannot_be(self, tmp_path: Path, steps: str, message: str) -> None:
        with pytest.raises(ConfigError) as caught:
            self.check(tmp_path, f"model: {{path: m}}\ndata: {{hub: h}}\nsteps: {steps}\n")
        assert message in caught.value.message

    def test_a_reference_to_a_broken_step_is_no_second_problem(self, tmp_path: Path) -> None:
        steps = "[{prune: {name: a}}, {quantize: {from: a, method: {name: michel}}}]"
        with pytest.raises(ConfigError) as caught:
            self.check(tmp_path, f"model: {{path: m}}\ndata: {{hub: h}}\nsteps: {steps}\n")
        assert len(caught.value.message.splitlines()) == 1

    def test_steps_built_in_python_are_checked_too(self) -> None:
        config = PipelineConfig.model_validate(
            {"model": {"path": "m"}, "data": {"hub": "h"}, "steps": [{"prune": {"methd": 1}}, {"export": {}}]}
        )
        with pytest.raises(
            ConfigError, match=r"steps\.0\.prune\.methd: unknown key \(did you mean 'method'\?\)"
        ):
            parse_steps(config)


def test_overrides_of_training_keep_only_what_was_written() -> None:
    config = CompressConfig.model_validate(
        {"model": {"path": "m"}, "method": {"name": "x"}, "train": {"epochs": "2", "schedule": "cosine"}}
    )
    assert config.train == {"epochs": 2.0, "schedule": "cosine"}
    assert CompressConfig.model_validate(config.model_dump()) == config


def test_a_methods_settings_from_python() -> None:
    assert parse_method(MethodSettings(name="michel", keep=0.5), HeadSettings) == HeadSettings(keep=0.5)
    with pytest.raises(ConfigError, match=r"method\.keap: unknown key \(did you mean 'keep'\?\)"):
        parse_method(MethodSettings(name="michel", keap=0.5), HeadSettings)

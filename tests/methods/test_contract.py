"""The promises that every method keeps. Methods are discovered, so a new one cannot be forgotten."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from compressbert.config.schema import ExportConfig
from compressbert.errors import CompressbertError, ConfigError, InputError
from compressbert.export.write import export_onnx
from compressbert.methods.base import NEED_TEXTS, MethodConfig, Run
from compressbert.methods.quantize import dynamic_int8
from compressbert.methods.registry import MethodInfo, list_methods, load_method
from compressbert.model.checkpoint import load, save
from compressbert.model.handle import Model
from compressbert.model.pooling import Pooling
from tests.methods.toy import logits, same_weights, toy_model, toy_run, weights
from tests.tiny import WITH_VECTORS, padded_batch

ROOT = Path(__file__).resolve().parents[2]
METHODS = list_methods()
NAMES = [info.name for info in METHODS]
every_method = pytest.mark.parametrize("info", METHODS, ids=NAMES)

# Settings with which a method gives the logits it was given. A distilled student always trains, so it
# has none: test_distilbert shows that a student equal to its teacher has nothing to learn from it.
NO_OP: dict[str, dict[str, Any] | None] = {
    "bilstm_soft": None,
    "compact": None,
    "distilbert": None,
    "internal_representations": None,
    "minibert": None,
    "minilm": None,
    "mobilebert": None,
    "pkd": None,
    "pretrained_distillation": None,
    "static_embedding": None,
    "small_vocab": None,
    "tinybert": None,
    "waldorf": None,
    "michel": {"keep": 1.0, "retune_epochs": 0},
    "layerdrop": {"remove": "top", "layers": 2, "retune_epochs": 0},
    "width": {"ffn_keep": 1.0, "hidden_keep": 1.0, "retune_epochs": 0},
    "dynamic_int8": {"exclude": ["*"]},
}
# Kind of task to the head of its model and the number of its labels.
HEADS = {
    "regression": ("classification", 1),
    "multi-label": ("classification", 2),
    "masked-lm": ("masked-lm", 2),
    "token-classification": ("tokens", 5),
    "question-answering": ("answers", 2),
    "sentence-embedding": ("none", 2),
}
# Settings that make a method train, where its defaults do not.
TRAINING: dict[str, dict[str, Any] | None] = {
    "bilstm_soft": {},
    "compact": {},
    "distilbert": {},
    "internal_representations": {},
    "minibert": {},
    "minilm": {},
    "mobilebert": {},
    "pkd": {},
    "pretrained_distillation": {},
    "static_embedding": {},
    "small_vocab": {},
    "tinybert": {},
    "waldorf": {},
    "michel": {"retune_epochs": 1},
    "layerdrop": {},
    "width": {},
    "dynamic_int8": None,
}


# Sizes with which a student is smaller than a tiny model, where it has the paper's by default.
TINY: dict[str, dict[str, Any]] = {"bilstm_soft": {"hidden": 8, "head": 8, "multichannel": False}}
# Kinds of task that a method's students cannot do, and says so.
REFUSED_TASKS: dict[str, tuple[str, ...]] = {
    "bilstm_soft": ("masked-lm", "token-classification", "question-answering", "sentence-embedding"),
    "static_embedding": ("masked-lm", "token-classification", "question-answering"),
    "waldorf": ("masked-lm", "sentence-embedding"),
}


@dataclass(frozen=True)
class Result:
    """One method applied to one model with its defaults."""

    info: MethodInfo
    module: ModuleType
    source: Model
    run: Run
    model: Model
    source_before: dict[str, torch.Tensor]
    teacher_before: dict[str, torch.Tensor]
    folder: Path


def _apply(folder: Path, info: MethodInfo, *, family: str = "bert", **options: Any) -> Result:
    module = load_method(info)
    source = toy_model(folder / "source", family)
    run = toy_run(folder, source, teacher=toy_model(folder / "source", family), **options)
    before = weights(source), weights(run.teacher)
    model = module.compress(source, module.Config.model_validate(TINY.get(info.name, {})), run)
    save(model, folder / "saved")
    return Result(info, module, source, run, model, *before, folder)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """Every method applied once, by name; each in the folder of its name."""
    folder = tmp_path_factory.mktemp("results")
    return {info.name: _apply(folder / info.name, info) for info in METHODS}


@pytest.fixture(params=NAMES)
def result(request: pytest.FixtureRequest, results: dict[str, Result]) -> Result:
    return results[request.param]


def test_every_method_is_listed_here() -> None:
    assert set(NAMES) == set(NO_OP) == set(TRAINING)


@every_method
def test_a_method_is_a_file_with_its_paper_settings_test_and_example(info: MethodInfo) -> None:
    module = load_method(info)
    assert re.search(r"arXiv \d{4}\.\d{5}", module.__doc__ or "")
    assert "What is done" in module.__doc__
    assert "Differs from the paper" in module.__doc__
    assert "Cost:" in module.__doc__
    assert set(info.needs) <= NEED_TEXTS.keys()
    assert issubclass(module.Config, MethodConfig)
    for name, field in module.Config.model_fields.items():
        assert field.description, name
        assert not field.is_required(), name
    assert (ROOT / "tests" / "methods" / f"test_{info.name}.py").is_file()
    order = ["NEEDS", "SURVEY", "TRAIN_DEFAULTS", "class Config", "def compress"]
    places = [
        re.search(rf"^{start}\b", info.path.read_text(encoding="utf-8"), re.MULTILINE) for start in order
    ]
    starts = [place.start() for place in places if place]
    assert len(starts) == len(order)
    assert starts == sorted(starts)


@every_method
def test_a_shipped_config_names_the_method_and_only_what_differs(info: MethodInfo) -> None:
    config = load_method(info).Config
    shipped = [
        yaml.safe_load(file.read_text(encoding="utf-8"))
        for file in (ROOT / "configs" / info.family).glob("*.yaml")
    ]
    methods = [document["method"] for document in shipped if document["method"]["name"] == info.name]
    assert methods
    defaults = config().model_dump()
    for method in methods:
        given = {key: value for key, value in method.items() if key != "name"}
        config.model_validate(given)
        assert not [key for key, value in given.items() if defaults[key] == value]


@every_method
def test_default_settings_round_trip(info: MethodInfo) -> None:
    config = load_method(info).Config()
    assert type(config).model_validate_json(config.model_dump_json()) == config
    assert type(config).model_validate(json.loads(json.dumps(config.model_dump(mode="json")))) == config


def test_output_is_finite_and_in_evaluation_mode(result: Result) -> None:
    output = logits(result.model, padded_batch())
    assert output.shape == (3, 2)
    assert torch.isfinite(output).all()
    assert not any(module.training for module in result.model.network.modules())


def test_the_model_shrinks(result: Result) -> None:
    save(result.source, result.folder / "dense")
    sizes = [(result.folder / name / "model.safetensors").stat().st_size for name in ("saved", "dense")]
    assert sizes[0] < 0.9 * sizes[1]
    assert result.run.notes


def test_input_and_teacher_are_untouched(result: Result) -> None:
    assert same_weights(weights(result.source), result.source_before)
    assert same_weights(weights(result.run.teacher), result.teacher_before)
    assert result.source.edits == []
    assert all(parameter.requires_grad for parameter in result.source.network.parameters())
    assert all(parameter.grad is None for parameter in result.source.network.parameters())
    assert not any(parameter.requires_grad for parameter in result.run.teacher.network.parameters())
    shared = {tensor.data_ptr() for tensor in result.source.network.state_dict().values()}
    assert not shared & {tensor.data_ptr() for tensor in result.model.network.state_dict().values()}


def test_saved_and_loaded_gives_equal_logits(result: Result) -> None:
    again = load(result.folder / "saved")
    assert torch.equal(logits(again, padded_batch()), logits(result.model, padded_batch()))
    assert [edit.to_json() for edit in again.edits] == [edit.to_json() for edit in result.model.edits]


def test_same_seed_same_bytes(result: Result, tmp_path: Path) -> None:
    again = _apply(tmp_path, result.info)
    first, second = (
        (folder / "saved" / "model.safetensors").read_bytes() for folder in (result.folder, again.folder)
    )
    assert first == second


def test_exported_to_onnx_it_gives_equal_logits(result: Result, tmp_path: Path) -> None:
    facts = export_onnx(result.model, tmp_path, ExportConfig())
    (file,) = facts.files.values()
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    batch = padded_batch()
    names = {node.name for node in session.get_inputs()}
    output = session.run(None, {name: tensor.numpy() for name, tensor in batch.items() if name in names})[0]
    tolerance = (
        0.05 if result.model.is_int8 else 1e-5
    )  # int8 rounding steps; export/parity.py compares every block
    np.testing.assert_allclose(output, logits(result.model, batch).numpy(), atol=tolerance, rtol=tolerance)
    assert facts.route == "direct"


def test_a_fresh_process_gives_equal_logits(results: dict[str, Result]) -> None:
    """All methods in one process: starting it is what takes time."""
    folder = results[NAMES[0]].folder.parent
    save_file(padded_batch(), folder / "batch.safetensors")
    script = (
        "import sys, torch; from pathlib import Path; from safetensors.torch import load_file, save_file\n"
        "from compressbert.model.checkpoint import load\n"
        "folder = Path(sys.argv[1]); batch = load_file(folder / 'batch.safetensors')\n"
        "with torch.no_grad():\n"
        "    found = {n: load(folder / n / 'saved')(**batch).logits.contiguous() for n in sys.argv[2:]}\n"
        "save_file(found, folder / 'found.safetensors')\n"
    )
    subprocess.run([sys.executable, "-c", script, str(folder), *NAMES], check=True, cwd=ROOT, timeout=120)
    found = load_file(folder / "found.safetensors")
    for name, result in results.items():
        assert torch.equal(found[name], logits(result.model, padded_batch())), name


@every_method
def test_settings_that_do_nothing_return_the_original_logits(info: MethodInfo, tmp_path: Path) -> None:
    if NO_OP[info.name] is None:
        pytest.skip("a distilled student always trains")
    module, source = load_method(info), toy_model(tmp_path)
    model = module.compress(source, module.Config.model_validate(NO_OP[info.name]), toy_run(tmp_path, source))
    assert torch.equal(logits(model, padded_batch()), logits(source, padded_batch()))
    assert model is not source
    assert model.edits == []


@every_method
def test_training_changes_weights_and_another_seed_changes_them_otherwise(
    info: MethodInfo, tmp_path: Path
) -> None:
    if TRAINING[info.name] is None:
        pytest.skip("this method does not train")
    module, source = load_method(info), toy_model(tmp_path)
    config = module.Config.model_validate(TRAINING[info.name])
    found = []
    for seed in (0, 1):
        run = toy_run(tmp_path, source, seed=seed, work=f"seed{seed}")
        model = module.compress(source, config, run)
        found.append(model.network.base_model.embeddings.word_embeddings.weight)
        assert run.log
        assert run.log[-1]["loss"] > 0
    original = source.network.base_model.embeddings.word_embeddings.weight
    assert not torch.equal(found[0], original)
    assert not torch.equal(found[0], found[1])


@every_method
@pytest.mark.parametrize("family", WITH_VECTORS[1:])
def test_every_family_can_be_compressed_and_reloaded(info: MethodInfo, family: str, tmp_path: Path) -> None:
    result = _apply(tmp_path, info, family=family, settings={"max_steps": 2})
    output = logits(result.model, padded_batch(family))
    assert torch.isfinite(output).all()
    assert torch.equal(logits(load(tmp_path / "saved"), padded_batch(family)), output)


# Methods that need what a family has not, and how the refusal says so. ModernBERT's layers have no parts to compare or
# cut; MPNet's queries and keys alone do not tell its attention, and its heads share a table.
NOT_FOR = {
    "modernbert": (
        ("internal_representations", "minilm", "mobilebert", "small_vocab", "tinybert", "width"),
        "apart, so they cannot be compared or cut",
    ),
    "mpnet": (
        ("internal_representations", "michel", "minilm", "mobilebert", "tinybert"),
        r"adds a bias to its scores|read one table of biases",
    ),
}


@pytest.mark.parametrize("family", NOT_FOR)
@every_method
def test_a_family_is_compressed_or_refused_before_training(
    info: MethodInfo, family: str, tmp_path: Path
) -> None:
    refused, reason = NOT_FOR[family]
    if info.name not in refused:
        result = _apply(tmp_path, info, family=family, settings={"max_steps": 2})
        output = logits(result.model, padded_batch(family))
        assert torch.isfinite(output).all()
        assert torch.equal(logits(load(tmp_path / "saved"), padded_batch(family)), output)
        return
    source = toy_model(tmp_path, family)
    run = toy_run(tmp_path, source, settings={"max_steps": 2})
    module = load_method(info)
    with pytest.raises(ConfigError, match=reason) as raised:
        module.compress(source, module.Config(), run)
    assert raised.value.hint
    assert run.log == []


@every_method
@pytest.mark.parametrize("task", list(HEADS))
def test_every_task_can_be_compressed_and_exported(info: MethodInfo, task: str, tmp_path: Path) -> None:
    module = load_method(info)
    head, labels = HEADS[task]
    source = toy_model(tmp_path, head=head, labels=labels)
    source.pooling = Pooling("mean", normalize=True) if head == "none" else None
    config = module.Config.model_validate(TRAINING[info.name] or {})
    run = toy_run(tmp_path, source, task=task, settings={"max_steps": 2})
    if task in REFUSED_TASKS.get(info.name, ()):
        with pytest.raises(ConfigError, match=f"{info.name} .* cannot learn {task}") as raised:
            module.compress(source, config, run)
        assert raised.value.hint
        return
    model = module.compress(source, config, run)
    output = logits(model, padded_batch())
    assert torch.isfinite(output).all()
    expected = logits(source, padded_batch()).shape
    if task == "masked-lm":  # a student may have words of its own
        expected = (*expected[:-1], len(model.tokenizer))
    assert output.shape == expected
    assert export_onnx(model, tmp_path / "onnx", ExportConfig()).route == "direct"
    save(model, tmp_path / "saved")
    assert torch.equal(logits(load(tmp_path / "saved"), padded_batch()), output)


@every_method
def test_missing_data_is_named(info: MethodInfo, tmp_path: Path) -> None:
    module, source = load_method(info), toy_model(tmp_path)
    run = Run.create(work=tmp_path / "work")
    needs = module.Config().needs(info.needs)
    if not needs:
        assert module.compress(source, module.Config(), run)
        return
    with pytest.raises(ConfigError, match=f"{info.name} needs training data") as raised:
        module.compress(source, module.Config(), run)
    assert "data" in raised.value.hint


@every_method
def test_int8_models_are_refused(info: MethodInfo, tmp_path: Path) -> None:
    source = toy_model(tmp_path)
    run = toy_run(tmp_path, source)
    quantized = dynamic_int8.compress(source, dynamic_int8.Config(), run)
    with pytest.raises(CompressbertError, match="int8") as raised:
        load_method(info).compress(quantized, load_method(info).Config(), run)
    assert raised.value.hint


def test_a_teacher_of_another_task_is_refused(tmp_path: Path) -> None:
    source, teacher = toy_model(tmp_path), toy_model(tmp_path / "other", labels=3)
    with pytest.raises(InputError, match="3 outputs, the data needs 2"):
        toy_run(tmp_path, source, teacher=teacher)

"""`augment` in a step: for every method that learns from a teacher alone, part of the step's key, cached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compressbert.config.schema import CompressConfig, PipelineConfig
from compressbert.errors import ConfigError
from compressbert.methods.registry import list_methods
from compressbert.pipeline.keys import model_fingerprint
from compressbert.pipeline.plan import plan
from compressbert.pipeline.steps.compress import compress, compress_key
from compressbert.results.record import StepResult
from tests.tiny import save_tiny, toy_rows, write_rows

# Settings with which a distillation method learns from its teacher alone, where its defaults do not.
WITHOUT_LABELS: dict[str, dict[str, Any]] = {
    "bilstm_soft": {},
    "distilbert": {"alpha_hard": 0},
    "internal_representations": {"alpha_hard": 0},
    "minilm": {"alpha_hard": 0},
    "mobilebert": {"alpha": 1},
    "pkd": {"alpha": 1},
    "pretrained_distillation": {"finetune_epochs": 0},
    "static_embedding": {},
    "tinybert": {},
    "waldorf": {"alpha": 1},
}
DISTILL = [info.name for info in list_methods() if info.family == "distill"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    save_tiny(tmp_path / "model")
    save_tiny(tmp_path / "words", head="masked-lm")
    write_rows(tmp_path / "train.jsonl", toy_rows(24))
    write_rows(tmp_path / "validation.jsonl", toy_rows(16, seed=1))
    return tmp_path


def settings(place: Path, method: str, augment: dict[str, Any], **own: Any) -> CompressConfig:
    return CompressConfig.model_validate(
        {
            "model": {"path": str(place / "model")},
            "data": {"train": str(place / "train.jsonl"), "validation": str(place / "validation.jsonl")},
            "method": {"name": method, **WITHOUT_LABELS.get(method, {}), **own},
            "augment": augment,
            "train": {"max_steps": 2, "batch_size": 8},
            "output": str(place / "student"),
        }
    )


def run(config: CompressConfig) -> StepResult:
    return compress("distill", config)


@pytest.mark.parametrize("method", DISTILL)
def test_every_method_that_can_do_without_labels_takes_new_texts(method: str, place: Path) -> None:
    config = settings(place, method, {"kind": "rules", "variants": 3})
    if method not in WITHOUT_LABELS:
        with pytest.raises(
            ConfigError, match="learns from labels, and the texts that augment makes have none"
        ):
            run(config)
        return
    result = run(config)
    (note,) = [text for text in result.notes if "by augmentation" in text]
    count = int(note.split()[0])
    assert 24 < count <= 24 * 4
    assert result.config["augment"]["kind"] == "rules"
    assert result.quality["accuracy"].examples == 16  # validation rows stay as they are


@pytest.mark.parametrize("method", [name for name in DISTILL if WITHOUT_LABELS.get(name)])
def test_labels_with_weight_are_refused_before_any_work(method: str, place: Path) -> None:
    config = settings(place, method, {"kind": "rules"})
    config = config.model_copy(update={"method": type(config.method)(name=method)})
    with pytest.raises(ConfigError, match=f"{method}, as it is set, learns from labels") as raised:
        run(config)
    assert f"compressbert methods {method}" in raised.value.hint
    assert not (place / "student").exists()


def test_a_teacher_made_on_the_way_does_without_labels_too(place: Path) -> None:
    result = run(settings(place, "mobilebert", {"kind": "rules", "variants": 2}, hidden=16))
    assert any("An inverted-bottleneck teacher comes between" in note for note in result.notes)
    assert any("by augmentation" in note for note in result.notes)


def test_a_masked_language_model_proposes_words(place: Path) -> None:
    model = {"path": str(place / "words")}
    result = run(settings(place, "static_embedding", {"kind": "masked-lm", "masked_lm": {"model": model}}))
    assert any("(masked-lm)" in text for text in result.notes)


def test_without_a_masked_language_model_there_is_one_clear_error(place: Path) -> None:
    with pytest.raises(ConfigError, match="needs a masked language model, found BertForSequence") as raised:
        run(settings(place, "static_embedding", {"kind": "masked-lm"}))
    assert "masked_lm: {model: {path: FOLDER}}" in raised.value.hint


@pytest.mark.parametrize("task", ["token-classification", "question-answering", "masked-lm"])
def test_tasks_with_targets_for_words_are_refused(task: str, place: Path) -> None:
    config = settings(place, "tinybert", {"kind": "rules"})
    assert config.data is not None
    config = config.model_copy(update={"data": config.data.model_copy(update={"task": task})})
    with pytest.raises(ConfigError, match=f"{task} has a target for its words"):
        run(config)


def test_pairs_are_augmented_too(place: Path) -> None:
    write_rows(place / "train.jsonl", toy_rows(24, pairs=True))
    write_rows(place / "validation.jsonl", toy_rows(16, pairs=True, seed=1))
    result = run(settings(place, "bilstm_soft", {"kind": "rules", "variants": 3}, hidden=4))
    assert json.loads((place / "student" / "config.json").read_text())["pairs"] is True
    assert any("by augmentation" in text for text in result.notes)


def test_the_settings_and_the_language_model_are_part_of_the_key(place: Path) -> None:
    parent = model_fingerprint(str(place / "model"))
    model = {"path": str(place / "words")}
    configs = [
        settings(place, "tinybert", augment)
        for augment in (
            {"kind": "rules"},
            {"kind": "rules", "variants": 5},
            {"kind": "rules", "rules": {"mask_chance": 0.2}},
            {"kind": "masked-lm", "masked_lm": {"model": model}},
        )
    ]
    keys = [compress_key("distill", config, parent=parent) for config in configs]
    save_tiny(place / "words", head="masked-lm", seed=7)
    keys.append(compress_key("distill", configs[-1], parent=parent))
    assert len(set(keys)) == 5


def test_a_step_of_a_pipeline_has_its_own(place: Path) -> None:
    config = PipelineConfig.model_validate(
        {
            "model": {"path": str(place / "model")},
            "data": {"train": str(place / "train.jsonl")},
            "steps": [
                {"distill": {"method": {"name": "tinybert"}, "augment": {"kind": "rules", "variants": 4}}}
            ],
            "output": str(place / "run"),
        }
    )
    (step,) = plan(config).steps
    assert isinstance(step.config, CompressConfig)
    assert step.config.augment is not None
    assert step.config.augment.variants == 4
    parent = model_fingerprint(str(place / "model"))
    assert step.key == compress_key("distill", step.config, parent=parent)

"""Several seeds: each trains on its own, the first one's model is kept, and the spread is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compressbert.config.schema import CompressConfig, FinetuneConfig, PipelineConfig
from compressbert.errors import ConfigError
from compressbert.measure.quality import load_predictions
from compressbert.model.checkpoint import load
from compressbert.pipeline.plan import plan
from compressbert.pipeline.steps import finetune as finetune_module
from compressbert.pipeline.steps.compress import compress
from compressbert.pipeline.steps.finetune import finetune
from tests.measure.test_quality import BINARY
from tests.tiny import save_tiny, toy_rows, write_rows


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COMPRESSBERT_CACHE", str(tmp_path / "cache"))
    save_tiny(tmp_path / "model")
    write_rows(tmp_path / "train.jsonl", toy_rows(48))
    write_rows(tmp_path / "validation.jsonl", toy_rows(40, seed=1))
    return tmp_path


def settings(place: Path, output: str, **changes: Any) -> dict[str, Any]:
    return {
        "model": {"path": str(place / "model")},
        "data": {"train": str(place / "train.jsonl"), "validation": str(place / "validation.jsonl")},
        "train": {"max_steps": 6, "batch_size": 8, "learning_rate": 3e-3},
        "output": str(place / output),
        **changes,
    }


def finetuned(place: Path, output: str, **changes: Any) -> Any:
    return finetune(FinetuneConfig.model_validate(settings(place, output, **changes)))


def test_each_seed_is_the_training_that_it_would_be_alone(place: Path) -> None:
    several = finetuned(place, "several", seeds=3, seed=4)
    alone = [finetuned(place, f"alone-{seed}", seed=seed) for seed in (4, 5, 6)]
    assert several.seeds is not None
    assert several.seeds.seeds == (4, 5, 6)
    assert several.seeds.values == pytest.approx([one.quality["accuracy"].value for one in alone])
    assert several.seeds.mean == pytest.approx(sum(several.seeds.values) / 3)
    assert several.quality == alone[0].quality
    for seed in (5, 6):
        kept = load_predictions(place / "several" / f"predictions-seed-{seed}.safetensors", BINARY)
        there = load_predictions(place / f"alone-{seed}" / "predictions.safetensors", BINARY)
        assert (kept.logits == there.logits).all()
    one, other = (load(place / name).network.state_dict() for name in ("several", "alone-4"))
    assert all((one[name] == other[name]).all() for name in one)
    assert alone[0].seeds is None


def test_a_killed_step_does_not_train_its_finished_seeds_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = finetuned(place, "whole", seeds=3)
    trained = finetune_module._trained
    seen: list[int] = []

    def killed_at_the_third(config: Any, inputs: Any, seed: int, work: Path) -> Any:
        seen.append(seed)
        if seed == 2 and seen.count(2) == 1:
            raise KeyboardInterrupt
        return trained(config, inputs, seed, work)

    monkeypatch.setattr(finetune_module, "_trained", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        finetuned(place, "killed", seeds=3)
    again = finetuned(place, "killed", seeds=3)
    assert seen == [0, 1, 2, 0, 2]  # the first one's finished training is read back
    assert again.seeds == whole.seeds


def test_a_method_with_seeds(place: Path) -> None:
    method = {"name": "distilbert", "layers": 1}
    found = compress("distill", CompressConfig.model_validate(settings(place, "d", method=method, seeds=2)))
    assert found.seeds is not None
    assert len(found.seeds.values) == 2
    assert found.seeds.values[0] == found.quality["accuracy"].value


def test_a_method_without_chance_is_done_once(place: Path) -> None:
    method = {"name": "dynamic_int8"}
    found = compress("quantize", CompressConfig.model_validate(settings(place, "q", method=method, seeds=3)))
    assert found.seeds is None
    assert not list((place / "q").glob("predictions-seed-*"))


def test_seeds_without_validation_rows_are_refused(place: Path) -> None:
    with pytest.raises(ConfigError, match="seeds: 2 needs validation data"):
        finetuned(place, "x", seeds=2, data={"train": str(place / "train.jsonl")})
    assert not (place / "x").exists()


def test_steps_of_a_pipeline_inherit_seeds_and_their_number_is_part_of_the_key(place: Path) -> None:
    def planned(**changes: Any) -> Any:
        steps = [
            {"finetune": {}},
            {"distill": {"method": {"name": "distilbert"}, "seeds": 1}},
            {"export": {}},
        ]
        document = settings(place, "run", steps=steps, name="x", **changes)
        return plan(PipelineConfig.model_validate(document)).steps

    once, thrice = planned(), planned(seeds=3)
    assert [getattr(step.config, "seeds", None) for step in thrice] == [3, 1, None]
    assert once[0].key != thrice[0].key

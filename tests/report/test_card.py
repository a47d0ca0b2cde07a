"""Model cards: what the hub reads, what is said and what is left out, and that no text of a user is markup."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from compressbert.report.card import SIGNATURE, Card, Measured, render, write_card
from compressbert.report.card_facts import Form, form_of
from compressbert.results.record import (
    Conditions,
    DataFacts,
    Interval,
    LineageStep,
    MetricResult,
    ModelFacts,
    Parent,
    Slice,
    StepResult,
)
from tests.report.examples import ENVIRONMENT, against_baseline, row

CONFIG = {
    "architectures": ["BertForSequenceClassification"],
    "model_type": "bert",
    "id2label": {"0": "negative", "1": "positive"},
}
FORM = Form(CONFIG)
ONNX = Form(CONFIG, ("onnx/model.onnx", "onnx/model_quantized.onnx"))
FACTS = ModelFacts(
    parameters=1000, nonzero_parameters=900, encoder_parameters=600, bytes_on_disk=4_200_000,
    bytes_by_component={"embeddings": 2_000_000, "attention": 2_200_000, "ffn": 0}, layers=2,
    heads_per_layer=(3, 1), ffn_per_layer=(64, 64), hidden=32, macs_per_token=5,
)  # fmt: skip
SECTION = {"task": "sequence-classification", "validation": "/home/me/secret/rows.jsonl.gz", "max_length": 96}
DATA = DataFacts(
    section=SECTION, files={"/home/me/secret/rows.jsonl.gz": "ab12"}, rows={"validation": 872}, pairs=False
)


def ancestor(command: str, read: str = "f" * 64, data: DataFacts | None = DATA, **more: Any) -> LineageStep:
    settings: dict[str, Any] = {
        "settings": {},
        "seed": 7,
        "parent": Parent(folder="/home/me/secret/m", sha256=read),
    }
    return LineageStep(command=command, data=data, **(settings | more))


def result(*lineage: LineageStep, **more: Any) -> StepResult:
    quality = {"matthews": MetricResult(value=0.78123456, low=0.74, high=0.82, examples=872)}
    settings: dict[str, Any] = {
        "step": "small", "command": "prune", "config": {}, "seed": 7, "quality": quality, "model": FACTS,
        "primary_metric": "matthews", "environment": ENVIRONMENT, "seconds": 1.0, "files": {}, "lineage": lineage,
    }  # fmt: skip
    return StepResult(**(settings | more))


def metadata(card: Card, form: Form = FORM) -> dict[str, Any]:
    """The front matter, through the hub's own classes, which validate it."""
    text = render(card, form)
    checked = ModelCard(text)
    found = yaml.safe_load(text.split("---\n")[1])
    assert checked.data.to_dict() == found
    return dict(found)


def test_the_front_matter_is_what_the_hub_reads() -> None:
    chain = (
        ancestor(
            "finetune", "hub:org/Base@main", DATA.model_copy(update={"section": {"hub": "nyu-mll/glue/sst2"}})
        ),
        ancestor("prune", method="michel"),
    )
    assert metadata(Card(result(*chain))) == {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "base_model": "org/Base",
        "base_model_relation": "finetune",
        "datasets": ["nyu-mll/glue"],
        "metrics": ["matthews_correlation"],
        "tags": ["compressbert", "bert", "michel"],
        "model-index": [
            {
                "name": "small",
                "results": [
                    {
                        "task": {"type": "text-classification", "name": "Text Classification"},
                        "dataset": {"name": "rows.jsonl.gz", "type": "rows", "split": "validation"},
                        "metrics": [
                            {
                                "type": "matthews_correlation",
                                "value": 0.781235,
                                "name": "matthews (95 % interval 0.7400 to 0.8200, 872 rows)",
                            }
                        ],
                    }
                ],
            }
        ],
    }


def test_the_hubs_classes_read_the_results_with_their_data_set() -> None:
    section = {"hub": "glue/sst2", "validation": None}
    chain = (ancestor("quantize", "hub:org/Base@main", DATA.model_copy(update={"section": section})),)
    (found,) = ModelCard(render(Card(result(*chain)), FORM)).data.eval_results
    assert (found.dataset_type, found.dataset_config, found.dataset_split) == ("glue", "sst2", "validation")
    assert found.metric_value == 0.781235


@pytest.mark.parametrize(
    ("commands", "form", "relation"),
    [
        (("finetune", "quantize"), Form(CONFIG, int8=True), "finetune"),
        (("quantize",), Form(CONFIG, int8=True), "quantized"),
        (("export",), ONNX, "quantized"),
        (("export",), Form(CONFIG, ("onnx/model.onnx",)), None),
        (("distill", "export"), ONNX, "finetune"),
    ],
)
def test_relation_to_the_base_model(commands: tuple[str, ...], form: Form, relation: str | None) -> None:
    chain = [ancestor(command, "hub:org/base@main") for command in commands]
    assert metadata(Card(result(*chain)), form).get("base_model_relation") == relation


def test_what_is_not_known_is_left_out() -> None:
    bare = Card(result(ancestor("prune", data=None), quality={}, primary_metric=None, model=None))
    found = metadata(bare, Form({}))
    assert found == {
        "library_name": "transformers", "pipeline_tag": "feature-extraction", "tags": ["compressbert"]
    }  # fmt: skip
    text = render(bare, Form({}))
    assert "Not scored" in text
    assert "Not measured." in text
    assert "## Size" not in text
    assert "Scored on" not in text


def test_no_place_of_somebodys_disk_is_told() -> None:
    text = render(Card(result(ancestor("finetune"), ancestor("prune"))), FORM)
    assert "secret" not in text
    assert "rows.jsonl.gz" in text


def test_the_same_facts_give_the_same_bytes() -> None:
    card = Card(result(ancestor("finetune", "hub:org/base@main")), measured())
    again = Card(StepResult.model_validate_json(card.result.model_dump_json()), measured())
    assert render(card, FORM) == render(again, FORM)


def measured(**changes: Any) -> Measured:
    worse = Slice(
        name="label=negative", by="label", examples=400, baseline=0.9, candidate=0.8, p=0.001, worse=True,
        drop=Interval(value=0.1, low=0.05, high=0.15),
    )  # fmt: skip
    found = row("export", p50=0.5, **against_baseline(8.12, slices=(worse,)))
    settings: dict[str, Any] = {"row": found, "baseline": "finetune", "environment": ENVIRONMENT}
    return Measured(**(settings | changes))


def test_measured_speed_and_losses_are_told_with_their_intervals() -> None:
    text = render(Card(result(ancestor("export")), measured()), ONNX)
    assert "| data's lengths | 0.500 [0.490, 0.515] | 0.650 | 8.12× [7.88, 8.36] |" in text
    assert "Against finetune, on the same rows: 98.5 [97.5, 99.5] % retained, 61 predictions changed" in text
    assert "label=negative (10.0 [5.0, 15.0] points)" in text
    assert "A CPU" in text
    assert "busy" not in text
    busy = measured(conditions=Conditions(threads=1, rounds=3, seconds=1, busy=True), timed_as_export=True)
    text = render(Card(result(ancestor("export")), busy), FORM)
    assert "kept the machine busy" in text
    assert "timed as ONNX, exported for the measurement" in text


def test_texts_of_users_are_no_markup() -> None:
    evil = '<script>alert(1)</script> "><img onerror=x> `code` [a](b) | # --- \n---\n'
    config = CONFIG | {"id2label": {"0": evil, "1": "y: [&x"}}
    chain = (ancestor("prune", method=evil, settings={"method": {"note": "```\n</details>" + evil}}),)
    quality = {evil: MetricResult(value=0.5, low=0.4, high=0.6, examples=9)}
    text = render(Card(result(*chain, step=evil, notes=(evil,), quality=quality)), Form(config))
    found = ModelCard(text)
    assert found.data.model_name == evil
    body = text[text.index("\n---\n") + 5 :]
    fence = "`" * 4
    outside = "".join(body.split(fence)[::2])  # what stands in the fence of the settings is shown as it is
    assert "<script" not in outside
    assert "<img" not in outside
    assert body.count(f"{fence}json") == 1
    assert "\n---\n" not in body


def test_a_card_that_somebody_edited_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    card = Card(result(ancestor("prune")))
    assert write_card(card, tmp_path)
    assert write_card(card, tmp_path)
    file = tmp_path / "README.md"
    assert file.read_text() == render(card, form_of(tmp_path))
    mine = file.read_text().replace(SIGNATURE, "Mine.")
    file.write_text(mine)
    assert not write_card(card, tmp_path)
    assert file.read_text() == mine


def test_the_form_is_read_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"auto_map": {"AutoModel": "m.M"}}))
    (tmp_path / "compression.json").write_text(json.dumps({"edits": [{"op": "quantize_int8"}]}))
    form = form_of(tmp_path)
    assert (form.code, form.is_int8, form.labels) == (True, True, ("negative", "positive"))
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"")
    assert (form_of(tmp_path).main, form_of(tmp_path).is_int8) == ("onnx/model.onnx", False)
    (tmp_path / "onnx" / "model_quantized.onnx").write_bytes(b"")
    assert (form_of(tmp_path).main, form_of(tmp_path).is_int8) == ("onnx/model_quantized.onnx", True)
    assert form_of(tmp_path / "none") == Form({})

"""Folders: saved ones load again exactly, heads fit their task or are new, damaged ones are refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForSequenceClassification, BertModel

from compressbert import progress
from compressbert.errors import ConfigError, InputError
from compressbert.model import edits
from compressbert.model.checkpoint import TaskSpec, load, save
from compressbert.model.handle import Model
from tests.model.build import difference, logits, tiny_model
from tests.tiny import FAMILIES, own_weights, padded_batch, save_tiny, tiny_network

POLARITY = TaskSpec("sequence-classification", ("negative", "positive"), 2)


class Listener(progress.Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    listener = Listener()
    monkeypatch.setattr(progress, "_listener", listener)
    return listener.notes


def prune(model: Model) -> None:
    edits.keep_heads(model, {0: [0, 2], 1: [3]})
    edits.keep_neurons(model, {0: range(0, 60, 2)})


@pytest.mark.parametrize("head", ["classification", "masked-lm"])
@pytest.mark.parametrize("family", FAMILIES)
def test_stock_folder_loads_exactly_and_round_trips(family: str, head: str, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "stock", family, head=head, **own_weights(family))
    model = load(folder)
    network = tiny_network(family, head=head, **own_weights(family))
    with torch.no_grad():
        assert difference(logits(model, family), network(**padded_batch(family)).logits) == 0.0
    assert not model.network.training
    assert model.network.config._attn_implementation == "sdpa"
    prune(model)
    edits.quantize_int8(model)
    model.history.append({"method": "x", "settings": {}, "parent_sha256": "0"})
    save(model, tmp_path / "one")
    again = load(tmp_path / "one")
    assert difference(logits(model, family), logits(again, family)) == 0.0
    assert (again.edits, again.history, again.base_config) == (model.edits, model.history, model.base_config)
    save(again, tmp_path / "two")
    for file in sorted((tmp_path / "one").iterdir()):
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name


def test_tied_tensors_are_stored_once(tmp_path: Path) -> None:
    save(tiny_model("bert", head="masked-lm"), tmp_path / "m")
    names = load_file(tmp_path / "m" / "model.safetensors").keys()
    assert "bert.embeddings.word_embeddings.weight" in names
    assert "cls.predictions.decoder.weight" not in names
    assert len([name for name in names if name.startswith("cls.predictions") and "bias" in name]) == 3


def test_uniform_results_load_in_stock_transformers_without_a_flag(tmp_path: Path) -> None:
    model = tiny_model("bert", layers=3)
    edits.keep_layers(model, [0, 2])
    edits.keep_neurons(model, {0: range(40), 1: range(24, 64)})
    edits.keep_hidden(model, range(16))
    edits.keep_heads(model, {0: [0, 1], 1: [1, 2]})
    save(model, tmp_path / "m")
    assert not (tmp_path / "m" / "modeling_compressbert.py").exists()
    stock, report = BertForSequenceClassification.from_pretrained(tmp_path / "m", output_loading_info=True)
    assert not any(report.values())
    with torch.no_grad():
        assert difference(stock(**padded_batch("bert")).logits, logits(model, "bert")) == 0.0


def test_half_precision_weights_load_as_fp32(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "m")
    tensors = {name: value.half() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    model = load(folder)
    assert {parameter.dtype for parameter in model.network.parameters()} == {torch.float32}
    name = "bert.encoder.layer.0.output.dense.weight"
    assert torch.equal(model.network.get_parameter(name), tensors[name].float())


def test_old_names_and_bare_encoders_are_understood(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "m")
    expected = logits(load(folder), "bert")
    tensors = {
        re.sub("LayerNorm.weight$", "LayerNorm.gamma", re.sub("LayerNorm.bias$", "LayerNorm.beta", name[5:]))
        if name.startswith("bert.")
        else name: value
        for name, value in load_file(folder / "model.safetensors").items()
    }
    tensors["embeddings.position_ids"] = torch.arange(64)[None]
    save_file(tensors, folder / "model.safetensors")
    assert difference(logits(load(folder), "bert"), expected) == 0.0


def test_a_head_that_fits_stays(tmp_path: Path, notes: list[str]) -> None:
    folder = save_tiny(tmp_path / "m")
    expected = logits(load(folder), "bert")
    for names in (("negative", "positive"), ("Negative", "Positive"), ("0", "1")):
        model = load(folder, task=TaskSpec("sequence-classification", names, 2))
        assert difference(logits(model, "bert"), expected) == 0.0
        assert model.network.config.id2label == {0: "negative", 1: "positive"}
        assert model.network.config.problem_type == "single_label_classification"
    assert notes == []


def test_generic_stored_names_take_the_names_of_the_data(tmp_path: Path) -> None:
    network = tiny_network("bert")
    folder = save_tiny(tmp_path / "m")
    network.save_pretrained(folder)  # LABEL_0, LABEL_1
    model = load(folder, task=POLARITY)
    assert model.network.config.label2id == {"negative": 0, "positive": 1}
    save(model, tmp_path / "again")
    assert load(tmp_path / "again").network.config.id2label == {0: "negative", 1: "positive"}


@pytest.mark.parametrize("names", [("positive", "negative"), ("entailment", "contradiction")])
def test_contradicting_label_names_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    folder = save_tiny(tmp_path / "m")
    with pytest.raises(
        InputError, match="The model's labels are negative, positive; the data's are"
    ) as caught:
        load(folder, task=TaskSpec("sequence-classification", names, 2))
    assert ("Set data.labels to [negative, positive]" in caught.value.hint) == (names[0] == "positive")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_that_does_not_fit_is_new_and_seeded(family: str, tmp_path: Path, notes: list[str]) -> None:
    folder = save_tiny(tmp_path / "m", family)
    task = TaskSpec("sequence-classification", ("a", "b", "c"), 3)
    torch.manual_seed(5)
    model = load(folder, task=task)
    assert logits(model, family).shape == (3, 3)
    assert model.network.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert len(notes) == 1
    assert "classifier" in notes[0]
    torch.manual_seed(5)
    assert difference(logits(load(folder, task=task), family), logits(model, family)) == 0.0
    torch.manual_seed(6)
    assert difference(logits(load(folder, task=task), family), logits(model, family)) > 0
    source = load(folder).network.base_model.state_dict()
    for name, tensor in model.network.base_model.state_dict().items():
        assert torch.equal(tensor, source[name]), name
    assert {parameter.isfinite().all().item() for parameter in model.network.parameters()} == {True}


@pytest.mark.parametrize("family", FAMILIES)
def test_masked_lm_and_classification_exchange_encoders(
    family: str, tmp_path: Path, notes: list[str]
) -> None:
    words = save_tiny(tmp_path / "words", family, head="masked-lm")
    model = load(words, task=TaskSpec("regression", (), 1))
    assert (model.network.config.problem_type, model.network.config.num_labels) == ("regression", 1)
    save(model, tmp_path / "score")
    torch.manual_seed(0)
    back = load(tmp_path / "score", task=TaskSpec("masked-lm", (), 35))
    source = load(words)
    table = back.network.get_input_embeddings().weight
    assert torch.equal(
        table, source.network.get_input_embeddings().weight
    )  # the new decoder is tied, not reset
    assert back.network.get_output_embeddings().weight is table
    assert len(notes) == 2
    kept = load(words, task=TaskSpec("masked-lm", (), 35))
    assert difference(logits(kept, family), logits(source, family)) == 0.0


@pytest.mark.parametrize("family", FAMILIES)
def test_an_edited_folder_takes_a_new_head(family: str, tmp_path: Path) -> None:
    model = tiny_model(family, head="masked-lm", **own_weights(family))
    prune(model)
    edits.keep_hidden(model, range(24))
    save(model, tmp_path / "m")
    new = load(tmp_path / "m", task=TaskSpec("multi-label", ("x", "y", "z"), 3))
    assert logits(new, family).shape == (3, 3)
    assert new.network.config.problem_type == "multi_label_classification"
    batch = padded_batch(family)
    with torch.no_grad():
        ours = new.network.base_model(**batch).last_hidden_state
        theirs = model.network.base_model(**batch).last_hidden_state
    assert difference(ours, theirs) == 0.0
    save(new, tmp_path / "again")
    assert difference(logits(load(tmp_path / "again"), family), logits(new, family)) == 0.0


def test_bare_encoder_takes_a_head_and_an_int8_one_does_not(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "m")
    network = tiny_network("bert")
    network.bert.save_pretrained(folder)
    model = load(folder)
    assert type(model.network) is BertModel
    assert type(load(folder, task=POLARITY).network) is BertForSequenceClassification
    edits.quantize_int8(model)
    save(model, tmp_path / "int8")
    with pytest.raises(ConfigError, match="int8 models do not train"):
        load(tmp_path / "int8", task=POLARITY)


def change(folder: Path, file: str, **values: Any) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def truncate(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def shard(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    (folder / "model.safetensors").unlink()
    parts = {"a.safetensors": names[:10], "b.safetensors": names[10:]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, folder / file)
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def drop(folder: Path, *names: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {name: value for name, value in tensors.items() if name not in names}, folder / "model.safetensors"
    )


def pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def lose_shard(folder: Path) -> None:
    shard(folder)
    (folder / "b.safetensors").write_bytes(b"12345678{")


DAMAGE: dict[str, tuple[Any, str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "has no config.json"),
    "config not JSON": (lambda f: (f / "config.json").write_text("{"), "config.json is not JSON"),
    "config a list": (lambda f: (f / "config.json").write_text("[]"), "expected a JSON object"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
    "pickle only": (pickle_only, "pytorch_model.bin, which is refused"),
    "truncated": (truncate, r"model\.safetensors is truncated or corrupted"),
    "garbage": (lambda f: (f / "model.safetensors").write_bytes(b"x" * 999), "is truncated or corrupted"),
    "empty": (lambda f: (f / "model.safetensors").write_bytes(b""), "is truncated or corrupted"),
    "bad shard": (lose_shard, r"b\.safetensors is truncated or corrupted"),
    "no shard": (lambda f: (shard(f), (f / "b.safetensors").unlink()), r"b\.safetensors is missing"),
    "other type": (lambda f: change(f, "config.json", model_type="gpt2"), "'gpt2' are not supported"),
    "no type": (lambda f: change(f, "config.json", model_type=None), "are not supported"),
    "decoder": (lambda f: change(f, "config.json", is_decoder=True), "only encoders are supported"),
    "odd sizes": (lambda f: change(f, "config.json", num_attention_heads=5), "No BertForSequence"),
    "own class": (lambda f: change(f, "config.json", architectures=["MyBert"]), "architecture MyBert"),
    "other width": (lambda f: change(f, "config.json", intermediate_size=8), r"shape \[64\], expected \[8\]"),
    "fewer layers": (lambda f: change(f, "config.json", num_hidden_layers=1), "has no place for"),
    "more layers": (lambda f: change(f, "config.json", num_hidden_layers=3), "lacks 16 tensors"),
    "lost head": (lambda f: drop(f, "classifier.bias"), r"lacks the weights of its head.*classifier\.bias"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer"),
    "tokenizer broken": (lambda f: (f / "tokenizer.json").write_text("{}"), "cannot be loaded"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_folders_are_refused(damage: str, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "m")
    spoil, message = DAMAGE[damage]
    spoil(folder)
    with pytest.raises(InputError, match=message) as caught:
        load(folder)
    assert caught.value.hint


def test_shards_load(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "m")
    expected = logits(load(folder), "bert")
    shard(folder)
    assert difference(logits(load(folder), "bert"), expected) == 0.0


def test_a_tokenizer_that_knows_too_much_is_refused(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "m")
    model = load(folder)
    model.tokenizer.add_tokens(["brandnew"])
    model.tokenizer.save_pretrained(folder)
    with pytest.raises(InputError, match="knows 36 word pieces, the model only 35"):
        load(folder)


def test_tensors_that_should_be_tied_but_differ_are_refused(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "m", head="masked-lm")
    tensors = load_file(folder / "model.safetensors")
    name = "bert.embeddings.word_embeddings.weight"
    save_file({**tensors, "cls.predictions.decoder.weight": tensors[name] + 1}, folder / "model.safetensors")
    with pytest.raises(InputError, match="says they are one tensor"):
        load(folder)


def test_records_of_edits_are_checked(tmp_path: Path) -> None:
    model = tiny_model("bert")
    prune(model)
    save(model, tmp_path / "m")
    record = json.loads((tmp_path / "m" / "compression.json").read_text())
    change(tmp_path / "m", "compression.json", schema_version=99)
    with pytest.raises(InputError, match="schema_version 99, expected 1"):
        load(tmp_path / "m")
    change(tmp_path / "m", "compression.json", schema_version=1, edits=[{"op": "keep_heads"}])
    with pytest.raises(InputError, match="is damaged"):
        load(tmp_path / "m")
    change(tmp_path / "m", "compression.json", edits=[])
    with pytest.raises(InputError, match="has the shape"):
        load(tmp_path / "m")
    change(tmp_path / "m", "compression.json", edits=record["edits"])
    assert load(tmp_path / "m").edits == model.edits
    (tmp_path / "m" / "compression.json").unlink()
    with pytest.raises(InputError, match=r"compression\.json is missing"):
        load(tmp_path / "m")


def test_paths_and_hub_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "file").write_text("")
    for path in ("./m", "/no/such/folder", "~/no-such-folder", "runs/teacher", "a/b/c", "a b"):
        with pytest.raises(InputError, match=r"No folder .* exists"):
            load(path)
    with pytest.raises(InputError, match="is a file"):
        load("file")
    with pytest.raises(InputError, match="has not finished"):
        load(save_tiny(tmp_path / ".m.partial"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("google/nothing", "nothing"):
        with pytest.raises(InputError, match=r"the hub model .* could not be fetched"):
            load(name, revision="v1")


def test_saving_leaves_nothing_beside_the_folder(tmp_path: Path) -> None:
    model = tiny_model("bert")
    prune(model)
    save(model, tmp_path / "m")
    assert (tmp_path / "m" / "modeling_compressbert.py").is_file()
    save(tiny_model("bert"), tmp_path / "m")
    assert not (tmp_path / "m" / "modeling_compressbert.py").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    shutil.copytree(tmp_path / "m", tmp_path / "moved")
    assert difference(logits(load(tmp_path / "moved"), "bert"), logits(load(tmp_path / "m"), "bert")) == 0.0


def test_tokenizer_state_of_a_call_is_not_saved(tmp_path: Path) -> None:
    model = tiny_model("bert")
    save(model, tmp_path / "fresh")
    model.tokenizer(["the film", "good"], padding=True, truncation=True, max_length=4)
    save(model, tmp_path / "used")
    assert (tmp_path / "fresh/tokenizer.json").read_bytes() == (tmp_path / "used/tokenizer.json").read_bytes()


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = save_tiny(tmp_path / "m")
    capfd.readouterr()
    save(load(folder, task=TaskSpec("regression", (), 1)), tmp_path / "n")
    assert tuple(capfd.readouterr()) == ("", "")

"""Networks that make one vector of a text: by hand, on padded batches, and through folders."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from compressbert.errors import ConfigError, InputError
from compressbert.model import architectures, stock
from compressbert.model.architectures.text_vectors import text_masks
from compressbert.model.checkpoint import TaskSpec, load, save
from compressbert.model.count import facts
from compressbert.model.handle import Model
from tests.model.text_vectors import KINDS, tiny_text_vectors

every_kind = pytest.mark.parametrize("kind", KINDS)


def logits(model: Model, texts: list[list[int]], *, left: bool = False) -> torch.Tensor:
    """Logits of token ids in one padded batch."""
    longest = max(map(len, texts))
    ids, mask = torch.zeros(2, len(texts), longest, dtype=torch.int64)
    for row, text in enumerate(texts):
        where = slice(longest - len(text), None) if left else slice(0, len(text))
        ids[row, where], mask[row, where] = torch.tensor(text), 1
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask).logits


def test_a_static_vector_is_the_mean_of_its_rows() -> None:
    model = tiny_text_vectors("static")
    table = model.network.encoder.embeddings.word_embeddings.weight
    with torch.no_grad():
        expected = model.network.classifier.out_proj((table[5] + table[7] + table[7]) / 3)
    torch.testing.assert_close(logits(model, [[5, 7, 7], [9] * 6])[0], expected)


def test_an_lstm_gives_both_last_states() -> None:
    """Step by step: forward to the last word piece, backward to the first."""
    model = tiny_text_vectors("bilstm")
    lstm, ids = model.network.encoder.lstm, [5, 9, 7]
    states = []
    with torch.no_grad():
        for side, order in (("", ids), ("_reverse", ids[::-1])):
            cell = torch.nn.LSTMCell(lstm.input_size, lstm.hidden_size)
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(cell, kind).copy_(getattr(lstm, f"{kind}_l0{side}"))
            state = None
            for token in order:
                state = cell(model.network.encoder.embeddings(torch.tensor([token])), state)
            states.append(state[0])
        expected = model.network.classifier((torch.cat(states, dim=-1),))
    torch.testing.assert_close(logits(model, [ids, [9] * 6])[:1], expected)


@every_kind
@pytest.mark.parametrize("left", [False, True])
def test_padded_batches_give_the_logits_of_single_texts(kind: str, left: bool) -> None:
    model = tiny_text_vectors(kind, head_size=4)
    texts = [[5], [6, 7, 8, 9, 10], [11, 12]]
    alone = torch.cat([logits(model, [text]) for text in texts])
    torch.testing.assert_close(logits(model, texts, left=left), alone)


def test_the_first_separator_parts_a_pair() -> None:
    model = tiny_text_vectors("static", pairs=True)
    sep = model.tokenizer.sep_token_id
    ids = torch.tensor([[2, 5, sep, 6, sep, 0], [2, 5, sep, 0, 0, 0], [2, 5, 7, 8, 9, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]])
    first, second = text_masks(ids, mask, model.network.config)
    assert first.tolist() == [[1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]]
    assert second.tolist() == [[0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]


def test_a_pair_is_four_features_of_two_vectors() -> None:
    model = tiny_text_vectors("static", pairs=True)
    table, sep = model.network.encoder.embeddings.word_embeddings.weight, model.tokenizer.sep_token_id
    with torch.no_grad():
        u, v = (table[5] + table[sep]) / 2, (table[6] + table[7] + table[sep]) / 3
        expected = model.network.classifier.out_proj(torch.cat([u, v, (u - v).abs(), u * v]))
    torch.testing.assert_close(logits(model, [[5, sep, 6, 7, sep]])[0], expected)


@every_kind
def test_a_pair_reads_each_text_as_if_it_stood_alone(kind: str) -> None:
    """Swapping the texts swaps their vectors, whatever their lengths and the padding behind them."""
    model = tiny_text_vectors(kind, pairs=True)
    sep = model.tokenizer.sep_token_id
    encoder, head = model.network.encoder, model.network.classifier
    a, b = [5, 9, sep], [6, 7, 8, sep]
    whole = torch.ones(1, 1, dtype=torch.int64)
    with torch.no_grad():
        u, v = (encoder.vectors(torch.tensor([text]), (whole.expand(1, len(text)),))[0] for text in (a, b))
        expected = torch.cat([head((u, v)), head((v, u))])
    torch.testing.assert_close(logits(model, [a + b, b + a, a + b + b])[:2], expected)


@every_kind
@pytest.mark.parametrize("pairs", [False, True])
def test_saved_and_loaded_it_is_the_same(kind: str, pairs: bool, tmp_path: Path) -> None:
    model = tiny_text_vectors(kind, pairs=pairs, head_size=4)
    save(model, tmp_path / "first")
    save(load(tmp_path / "first"), tmp_path / "second")
    names = sorted(file.name for file in (tmp_path / "first").iterdir())
    assert "modeling_compressbert.py" in names
    for name in set(names) - {"tokenizer_config.json"}:  # says where it was loaded from
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    texts = [[5, 6, model.tokenizer.sep_token_id, 7], [8]]
    assert torch.equal(logits(load(tmp_path / "first"), texts), logits(model, texts))


def test_plain_transformers_opens_the_folders(tmp_path: Path) -> None:
    batch = {
        "input_ids": torch.tensor([[5, 3, 6], [7, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1], [1, 0, 0]]),
    }
    save_file(batch, tmp_path / "batch.safetensors")
    models = {kind: tiny_text_vectors(kind, pairs=True, head_size=4) for kind in KINDS}
    for kind, model in models.items():
        save(model, tmp_path / kind)
    script = (
        "import sys; sys.modules['compressbert'] = None\n"
        "from safetensors.torch import load_file, save_file\n"
        "from transformers import AutoModel, AutoModelForSequenceClassification as Auto\n"
        "batch, found = load_file('batch.safetensors'), {}\n"
        "for kind in sys.argv[1:]:\n"
        "    network, info = Auto.from_pretrained(kind, trust_remote_code=True, output_loading_info=True)\n"
        "    assert not any(info.values()), info\n"
        "    found[kind] = network(**batch).logits.detach()\n"
        "    found[kind + ' encoder'] = AutoModel.from_pretrained(kind, trust_remote_code=True)(**batch)[1].detach()\n"
        "save_file(found, 'found.safetensors')\n"
    )
    environment = {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1", "PATH": ""}
    subprocess.run(
        [sys.executable, "-c", script, *KINDS], check=True, cwd=tmp_path, env=environment, timeout=120
    )
    found = load_file(tmp_path / "found.safetensors")
    for kind, model in models.items():
        with torch.no_grad():
            assert torch.equal(found[kind], model(**batch).logits)
            assert torch.equal(found[f"{kind} encoder"], model.network.encoder(**batch).pooler_output)


@every_kind
def test_a_new_head_and_the_encoder_alone(kind: str, tmp_path: Path) -> None:
    model = tiny_text_vectors(kind)
    save(model, tmp_path / "saved")
    torch.manual_seed(0)
    three = load(tmp_path / "saved", task=TaskSpec("sequence-classification", ("a", "b", "c"), 3))
    assert logits(three, [[5, 6]]).shape == (1, 3)
    table = model.network.get_input_embeddings().weight
    assert torch.equal(three.network.get_input_embeddings().weight, table)
    with pytest.raises(ConfigError, match="no head for token-classification"):
        load(tmp_path / "saved", task=TaskSpec("token-classification", ("a", "b"), 2))


def test_counts_are_those_of_the_shapes() -> None:
    static, lstm = tiny_text_vectors("static"), tiny_text_vectors("bilstm", frozen_size=2)
    words = len(static.tokenizer)
    found = facts(static)
    assert found.parameters == words * 8 + 8 * 2 + 2
    assert (found.encoder_parameters, found.layers, found.hidden, found.macs_per_token) == (0, 0, 8, 8)
    assert found.bytes_by_component["embeddings"] == words * 8 * 4
    assert found.bytes_by_component["head"] == 4 * 18
    found = facts(lstm)
    inside = 2 * 4 * (5 * (6 + 2) + 5 * 5 + 2 * 5)  # both directions: input, states and two biases
    assert found.encoder_parameters == found.bytes_by_component["rest"] // 4 == inside
    assert found.parameters == words * (6 + 2) + inside + 10 * 2 + 2
    assert found.macs_per_token == 2 * 4 * 5 * (8 + 5)


def test_parts_of_transformers_are_not_looked_for_in_them() -> None:
    model = tiny_text_vectors("static")
    assert model.is_own
    with pytest.raises(InputError, match="compressbert-static-embedding"):
        _ = model.family


def test_every_architecture_is_registered_under_its_own_name() -> None:
    for kind in KINDS:
        config = tiny_text_vectors(kind).network.config
        assert architectures.is_own(config.model_type)
        assert type(stock.config_from(stock.plain(config))) is architectures.config_class(config.model_type)
        assert "compressbert" not in architectures.source_of(config.model_type).partition('"""')[0]
        assert "import compressbert" not in architectures.source_of(config.model_type)
        assert "from compressbert" not in architectures.source_of(config.model_type)

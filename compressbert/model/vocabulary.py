"""Another vocabulary for a model: its word table, and what predicts words, get the rows of other pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from compressbert.errors import ConfigError
from compressbert.model import stock, surgery
from compressbert.model.handle import Model
from compressbert.nn.two_vocabularies import JointEmbedding, JointOutput

Pieces = Sequence[Sequence[int]]


def pieces_in(own: Any, other: Any) -> list[list[int]]:
    """What each piece of ``other`` is in the pieces of ``own``, in the order of its ids.

    Special tokens are each other. A piece that both have is itself; another one is what ``own`` makes of its letters,
    as the beginning of a word. Nothing is empty: what ``own`` cannot read is its unknown token.
    """
    known = own.get_vocab()
    roles = zip(other.all_special_tokens, other.all_special_ids, strict=True)
    special = {index: own.convert_tokens_to_ids(token) for token, index in roles}
    found = []
    for index, piece in enumerate(other.convert_ids_to_tokens(range(len(other)))):
        if index in special:
            found.append([int(special[index])])
        elif piece in known:
            found.append([int(known[piece])])
        else:
            text = piece.removeprefix("##")
            ids = own.backend_tokenizer.encode(text, add_special_tokens=False).ids
            found.append([int(part) for part in ids] or [int(own.unk_token_id)])
    return found


def mean_rows(table: Tensor, pieces: Pieces) -> Tensor:
    """The mean of a table's rows, or of a bias' entries, for each list of ids: (V, ...) to (len(pieces), ...)."""
    flat = torch.tensor([index for ids in pieces for index in ids], device=table.device)
    counts = torch.tensor([len(ids) for ids in pieces], device=table.device)
    owner = torch.repeat_interleave(torch.arange(len(pieces), device=table.device), counts)
    sums = table.new_zeros((len(pieces), *table.shape[1:])).index_add_(0, owner, table[flat])
    return sums / counts.view(-1, *[1] * (table.dim() - 1))


def word_table(model: Model) -> nn.Parameter:
    """(V, H): the rows of a model's words.

    Raises:
        ConfigError: They are int8.
    """
    table = model.network.get_input_embeddings()
    if not isinstance(table, nn.Embedding):
        raise ConfigError("int8 word tables have no gradient", hint="Give the fp32 model.")
    return cast(nn.Parameter, table.weight)


def add_vocabulary(model: Model, tokenizer: Any, *, width: int | None = None) -> JointEmbedding:
    """Let ``model`` read, and predict if it does, a second vocabulary beside its own, in place, for training.

    Args:
        model: Changed in place; its tokenizer stays. It can no longer be saved.
        tokenizer: Of the second vocabulary, whose ids follow the model's own.
        width: Of the second table; None: the first one's. A narrower one starts at the leading features.

    Returns:
        The table of both; a piece of the second starts at the mean of the model's own that it stands for.
    """
    network: Any = model.network
    rows = mean_rows(word_table(model).detach(), pieces_in(model.tokenizer, tokenizer))
    output = network.get_output_embeddings()
    joint = JointEmbedding(network.get_input_embeddings(), rows[:, :width])
    surgery.replace(network, model.family.path(network, "word"), joint)
    if output is not None:
        name = next(name for name, module in network.named_modules() if module is output)
        surgery.replace(network, name, JointOutput(output, joint))
    return joint


def change_vocabulary(model: Model, tokenizer: Any, pieces: Pieces) -> None:
    """Give ``model`` another tokenizer, in place; a new piece starts at the mean of the old ones it stands for.

    No edit is recorded: the model is then one of a stock config with another vocabulary.

    Args:
        model: Changed in place.
        tokenizer: Its new one, the padding token at the same id.
        pieces: From `pieces_in`: old ids for each new one.

    Raises:
        ConfigError: The padding token has another id, which a network of this kind counts positions by, or the model
            is int8.
    """
    network: Any = model.network
    config = network.config
    if tokenizer.pad_token_id != config.pad_token_id:
        raise ConfigError(
            f"the padding token has id {tokenizer.pad_token_id}, the model's own {config.pad_token_id}",
            hint="Use a vocabulary whose special tokens stand in the model's order.",
        )
    table, output = word_table(model), network.get_output_embeddings()
    rows = mean_rows(table.detach(), pieces)
    tied = output is None or output.weight is table
    own_rows = None if tied else mean_rows(output.weight.detach(), pieces)
    bias = None if output is None or output.bias is None else mean_rows(output.bias.detach(), pieces)
    trained = table.requires_grad
    with stock.quiet(), torch.random.fork_rng(devices=[]), torch.no_grad():
        network.resize_token_embeddings(len(pieces), mean_resizing=False)
        network.get_input_embeddings().weight.copy_(rows)
        if own_rows is not None:
            network.get_output_embeddings().weight.copy_(own_rows)
        if bias is not None:
            network.get_output_embeddings().bias.copy_(bias)
    network.requires_grad_(trained)
    model.tokenizer = tokenizer
    model.base_config["vocab_size"] = config.vocab_size = len(pieces)

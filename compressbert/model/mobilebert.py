"""MobileBERT networks for distillation: the thin student, and the wide teacher with the same stream between layers.

Z. Sun et al. MobileBERT: a Compact Task-Agnostic BERT for Resource-Limited Devices. ACL 2020. arXiv 2004.02984

Both are stock networks of transformers. Every layer reads and writes a residual stream; a linear map leads into the
layer and another one out. The student's inside is narrower than the stream (bottleneck), the teacher's is wider
(inverted bottleneck). Their streams have the same width, so that states can be compared layer by layer.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from transformers import MobileBertConfig
from transformers.models.mobilebert.modeling_mobilebert import NoNorm

from compressbert.errors import ConfigError
from compressbert.model import stock
from compressbert.model.handle import Model
from compressbert.model.narrow_words import leading, principal_basis, vectors_of, weight_of
from compressbert.model.parts import Bottleneck, copy_layer

Norm = Literal["no_norm", "layer_norm"]


@dataclass(frozen=True)
class MobileShape:
    """Sizes of a MobileBERT student.

    Attributes:
        layers: How many.
        hidden: Width of the stream between layers.
        inner: Width inside a layer; a multiple of the heads.
        heads: In each layer.
        ffn: Neurons of each feed-forward network.
        feed_forwards: Feed-forward networks stacked in a layer.
        embedding: Width of the word table.
        norm: ``no_norm`` scales and shifts only.
    """

    layers: int
    hidden: int
    inner: int
    heads: int
    ffn: int
    feed_forwards: int = 4
    embedding: int = 128
    norm: Norm = "no_norm"

    def __post_init__(self) -> None:
        if self.inner % self.heads:
            raise ConfigError(
                f"inner: {self.inner} is no multiple of {self.heads} heads", hint="Choose one that is."
            )


def build_thin(source: Model, shape: MobileShape, *, seed: int) -> Model:
    """A MobileBERT of ``shape`` with random layers, and the embeddings and head of ``source`` as far as they fit.

    Args:
        source: The teacher; left as it is.
        shape: Sizes.
        seed: Of the random weights.

    Raises:
        ConfigError: The heads do not divide the inner width, or ``source`` has a head of another kind.
    """
    student = _new(
        source,
        seed,
        num_hidden_layers=shape.layers,
        hidden_size=shape.hidden,
        intra_bottleneck_size=shape.inner,
        num_attention_heads=shape.heads,
        intermediate_size=shape.ffn,
        num_feedforward_networks=shape.feed_forwards,
        embedding_size=shape.embedding,
        normalization_type=shape.norm,
        hidden_act="relu",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.1,
    )
    basis = principal_basis(source, shape.hidden)
    _take_embeddings(student, source, basis)
    _take_head(student, source)
    return student


def build_inverted(source: Model, *, hidden: int, heads: int, embedding: int, seed: int) -> Model:
    """An inverted-bottleneck teacher that starts from a plain one: its layers are the insides.

    The stream holds the ``hidden`` directions in which the plain teacher's word vectors differ most. Maps into and
    out of a layer are these directions; a layer reads its input normalised as the layer before it left it.

    Args:
        source: A model of a plain family; left as it is.
        hidden: Width of the stream, at most the source's.
        heads: In each layer; divides the source's width.
        embedding: Width of the word table.
        seed: Of the random weights (the head).

    Raises:
        ConfigError: A width that is impossible.
    """
    layers = source.family.layers(source.network)
    inner, ffn = layers[0].hidden, layers[0].ffn
    if hidden > inner or inner % heads or any((each.hidden, each.ffn) != (inner, ffn) for each in layers):
        raise ConfigError(
            f"hidden: {hidden}, heads: {heads} do not fit a teacher of even layers that are {inner} wide",
            hint="Choose at most its width, and a number of heads that divides it.",
        )
    teacher = _new(
        source,
        seed,
        num_hidden_layers=len(layers),
        hidden_size=hidden,
        intra_bottleneck_size=inner,
        num_attention_heads=heads,
        intermediate_size=ffn,
        num_feedforward_networks=1,
        embedding_size=embedding,
        normalization_type="layer_norm",
        use_bottleneck_attention=True,
        key_query_shared_bottleneck=False,
        hidden_act=source.activation or "gelu",
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
    )
    basis = principal_basis(source, hidden)
    _take_embeddings(teacher, source, basis)
    _take_layers(teacher, source, basis)
    _take_head(teacher, source)
    return teacher


def calibrate_no_norm(model: Model, inputs: Sequence[dict[str, Tensor]]) -> None:
    """Let NoNorm embeddings come out, on average over these inputs, as the LayerNorm they were copied from would.

    A LayerNorm divides by each token's own spread; the mean of spreads takes its place. No effect on a LayerNorm.

    Args:
        model: Changed in place.
        inputs: Batches (B, S).
    """
    norm = cast(nn.Module, model.family.embeddings(model.network).norm)
    if not isinstance(norm, NoNorm):
        return
    seen: list[Tensor] = []
    embeddings = cast(nn.Module, model.network.base_model.embeddings)
    handle = norm.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        with torch.no_grad():
            for each in inputs:
                embeddings(each["input_ids"], each.get("token_type_ids"))
    finally:
        handle.remove()
    real = [each["attention_mask"].bool() for each in inputs]
    sums = torch.cat([rows[mask] for rows, mask in zip(seen, real, strict=True)])  # (tokens, H)
    with torch.no_grad():
        norm.weight.div_(sums.std(-1, correction=0).mean())
        norm.bias.sub_(norm.weight * sums.mean())


def _new(source: Model, seed: int, **sizes: Any) -> Model:
    """A MobileBERT with the head, vocabulary and labels of ``source``, its weights random.

    Raises:
        ConfigError: The source's layers do not have the parts that a MobileBERT's are compared with.
    """
    source.family.check_vectors(source.network)
    given, found = source.network.config, source.family.embeddings(source.network)
    rows = [0 if table is None else cast(int, table.num_embeddings) for table in
            (found.word, found.position, found.token_type)]  # fmt: skip
    config = MobileBertConfig(
        vocab_size=rows[0],
        max_position_embeddings=rows[1] - found.position_offset,
        type_vocab_size=rows[2] or 1,
        pad_token_id=given.pad_token_id or 0,
        id2label=dict(given.id2label),
        label2id=dict(given.label2id),
        problem_type=given.problem_type,
        trigram_input=True,
        **sizes,
    )
    network_class = stock.sibling_class(source.network, config)
    with torch.random.fork_rng(devices=[]), stock.quiet():
        torch.manual_seed(seed)
        network = network_class(config).float().eval()
    tokenizer = copy.deepcopy(source.tokenizer)
    return replace(
        source, network=network, tokenizer=tokenizer, base_config=stock.plain(config), edits=[], history=[]
    )


def _take_embeddings(model: Model, source: Model, basis: Tensor) -> None:
    """Words as the best product of a narrow table and a map; positions, types and the norm as they are."""
    own, theirs = (each.family.embeddings(each.network) for each in (model, source))
    table = weight_of(own.word)  # shares the memory of the table itself
    if theirs.trigram and weight_of(theirs.word).shape == table.shape:
        tensors = cast(nn.Module, source.network.base_model.embeddings).state_dict()
        cast(nn.Module, model.network.base_model.embeddings).load_state_dict(tensors)
    else:
        words, positions, types = vectors_of(source)
        words, width = words @ basis, table.shape[1]
        kept = leading(words, min(width, words.shape[1]))
        size = kept.shape[1]
        table.zero_()[:, :size] = words @ kept
        transformation = cast(nn.Linear, own.projection)
        weight_of(transformation).zero_()[:, width : width + size] = kept
        transformation.bias.detach().zero_()
        weight_of(own.position).copy_(positions @ basis)
        weight_of(cast(nn.Module, own.token_type))[:] = 0 if types is None else types @ basis
        if len(basis) == basis.shape[1] and theirs.projection is None:
            own.norm.load_state_dict(theirs.norm.state_dict())
    table[model.network.config.pad_token_id] = 0  # a word beside padding must look like one at the end


def _take_layers(model: Model, source: Model, basis: Tensor) -> None:
    """The plain layers become the insides of the model's; ``basis`` leads into them and out."""
    before: nn.Module = source.family.embeddings(source.network).norm
    pairs = zip(model.family.layers(model.network), source.family.layers(source.network), strict=True)
    for own, theirs in pairs:
        copy_layer(own, theirs)
        way = cast(Bottleneck, own.bottleneck)
        weight_of(way.residual).copy_(basis)
        weight_of(way.out).copy_(basis.t())
        for linear in (way.residual, way.out):
            cast(Tensor, linear.bias).detach().zero_()
        if weight_of(before).shape == weight_of(way.residual_norm).shape:
            way.residual_norm.load_state_dict(before.state_dict())
        before = theirs.ffn_norm


def _take_head(model: Model, source: Model) -> None:
    """Copy the head where it computes the same from states of the same width; else it stays random."""
    own = model.family.head_modules(model.network)
    prefix = source.family.encoder_prefix(source.network)
    theirs = {_NAMES.get(name, name.removeprefix(prefix)): module
              for name, module in source.family.head_modules(source.network).items()}  # fmt: skip
    own = {
        name.removeprefix(model.family.encoder_prefix(model.network)): module for name, module in own.items()
    }
    same_activation = len(own) == 1 or source.family.name in ("bert", "roberta", "mobilebert", "albert")
    if same_activation and _shapes(own) == _shapes(theirs):
        for name, module in own.items():
            module.load_state_dict(theirs[name].state_dict())


_NAMES = {"pooler": "pooler.dense", "classifier.dense": "pooler.dense", "classifier.out_proj": "classifier"}


def _shapes(modules: Mapping[str, nn.Module]) -> dict[str, torch.Size]:
    return {
        f"{name}.{leaf}": tensor.shape
        for name, module in modules.items()
        for leaf, tensor in module.state_dict().items()
    }

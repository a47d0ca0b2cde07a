"""The only file that knows how an architecture names its parts: BERT, RoBERTa, DistilBERT, ELECTRA, MobileBERT.

A family is a table of names relative to the encoder or to one layer; everything else asks it for live
modules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import nn
from transformers import PreTrainedModel

from compressbert.errors import InputError
from compressbert.nn.int8 import Int8Embedding, Int8Linear

WEIGHTED = (nn.Linear, nn.LayerNorm, nn.Embedding, Int8Linear, Int8Embedding)


@dataclass(frozen=True)
class Bottleneck:
    """Live modules between MobileBERT's wide residual stream and the narrow inside of a layer.

    Attributes:
        residual, residual_norm: Stream to the inside, where the layer's own residuals run.
        shared, shared_norm: Stream to what queries and keys read; None where they have no map of their own.
        out, out_norm: Inside to the stream.
        attention_is_inside: Queries, keys and values all read what ``residual`` gives.
    """

    residual: nn.Module
    residual_norm: nn.Module
    shared: nn.Module | None
    shared_norm: nn.Module | None
    out: nn.Module
    out_norm: nn.Module
    attention_is_inside: bool


@dataclass(frozen=True)
class FeedForward:
    """Live modules of a feed-forward network that MobileBERT stacks below a layer's last one."""

    ffn_in: nn.Module
    ffn_out: nn.Module
    norm: nn.Module


@dataclass(frozen=True)
class Layer:
    """Live modules of one transformer layer. A projection is a Linear or an Int8Linear.

    ``bottleneck`` and ``stacked`` are MobileBERT's; its norms may be `NoNorm`, which only scales and shifts.
    """

    attention: nn.Module
    query: nn.Module
    key: nn.Module
    value: nn.Module
    attention_out: nn.Module
    attention_norm: nn.LayerNorm
    ffn_in: nn.Module
    ffn_out: nn.Module
    ffn_norm: nn.LayerNorm
    bottleneck: Bottleneck | None = None
    stacked: tuple[FeedForward, ...] = ()

    @property
    def heads(self) -> int:
        """How many heads survive in this layer."""
        return cast(int, self.query.out_features) // cast(int, self.attention.attention_head_size)

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        last = self.ffn_out if self.bottleneck is None else self.bottleneck.out
        return cast(int, last.out_features)

    @property
    def ffn(self) -> int:
        """How many FFN neurons survive in this layer."""
        return cast(int, self.ffn_in.out_features)


@dataclass(frozen=True)
class Embeddings:
    """Live modules between token ids and the first layer.

    ``projection`` maps the finished sum to the layers' width (ELECTRA), or the words alone: each beside its two
    neighbours (``trigram``, MobileBERT).
    """

    word: nn.Module
    position: nn.Module
    token_type: nn.Module | None
    norm: nn.LayerNorm
    projection: nn.Module | None
    position_offset: int
    trigram: bool = False


@dataclass(frozen=True)
class Family:
    """Where one architecture keeps its parts.

    Attributes:
        name: bert, roberta, distilbert, electra or mobilebert.
        model_types: Values of ``config.model_type`` it covers.
        layers_at: The list of layers, from the encoder.
        embeddings_at: Kind of embedding module to its name, from the encoder.
        layer_at: Kind of layer module (field of `Layer`) to its name, from the layer.
        head_count_at: Attributes of the attention module for the number of heads and for their total width.
        config_at: What a size is called in the config: layers, hidden, heads, ffn, embedding.
        head_at: Module after the encoder (a pooler's name is from the encoder) to the spaces it reads from
            and
            writes to: hidden, embedding, or None for anything else (labels, vocabulary).
        is_narrowable: Whether neurons and the residual stream can be cut and the config still says how wide.
    """

    name: str
    model_types: tuple[str, ...]
    layers_at: str
    embeddings_at: Mapping[str, str]
    layer_at: Mapping[str, str]
    head_count_at: tuple[str, str | None]
    config_at: Mapping[str, str]
    head_at: Mapping[str, tuple[str | None, str | None]]
    is_narrowable: bool = True

    def encoder_prefix(self, network: PreTrainedModel) -> str:
        """`encoder_prefix` of a network of this family."""
        return encoder_prefix(network)

    def path(self, network: PreTrainedModel, kind: str, layer: int | None = None) -> str:
        """Qualified name of a part.

        Args:
            network: The network the name is for.
            kind: A field of `Layer` or `Embeddings`, ``layers`` for the list of layers, or ``layer`` for one
                of them.
            layer: Which layer, for the parts of one.
        """
        prefix = self.encoder_prefix(network)
        if layer is not None:
            leaf = "" if kind == "layer" else f".{self.layer_at[kind]}"
            return f"{prefix}{self.layers_at}.{layer}{leaf}"
        return prefix + (self.layers_at if kind == "layers" else self.embeddings_at[kind])

    def layer_list(self, network: PreTrainedModel) -> nn.ModuleList:
        """The list that holds the layers."""
        return cast(nn.ModuleList, network.get_submodule(self.path(network, "layers")))

    def layers(self, network: PreTrainedModel) -> list[Layer]:
        """Every layer's modules, from the input up."""
        return self.layers_of(self.layer_list(network))

    def layers_of(self, blocks: Iterable[nn.Module]) -> list[Layer]:
        """The modules of these layers of the family, wherever they stand."""
        return [
            Layer(
                **{kind: block.get_submodule(name) for kind, name in self.layer_at.items()},  # type: ignore[arg-type]
                **_mobile_parts(block),
            )
            for block in blocks
        ]

    def embeddings(self, network: PreTrainedModel) -> Embeddings:
        """The modules between token ids and the first layer."""
        encoder = network.base_model
        found = {kind: _submodule(encoder, name) for kind, name in self.embeddings_at.items()}
        offset = cast(int, network.config.pad_token_id) + 1 if self.name == "roberta" else 0
        return Embeddings(
            word=encoder.get_submodule(self.embeddings_at["word"]),
            position=encoder.get_submodule(self.embeddings_at["position"]),
            token_type=found.get("token_type"),
            norm=cast(nn.LayerNorm, found["norm"]),
            projection=found.get("projection"),
            position_offset=offset,
            trigram=bool(getattr(network.config, "trigram_input", False)),
        )

    def head_modules(self, network: PreTrainedModel) -> dict[str, nn.Module]:
        """Every module with weights after the last layer (pooler, task head), by qualified name."""
        prefix = self.encoder_prefix(network)
        inside = (f"{prefix}{self.layers_at}.", f"{prefix}embeddings.", f"{prefix}embeddings_project")
        return {
            name: module
            for name, module in network.named_modules()
            if isinstance(module, WEIGHTED) and not name.startswith(inside)
        }

    def head_size(self, network: PreTrainedModel) -> int:
        """Width of one attention head, fixed when the model was built."""
        return cast(int, self.layers(network)[0].attention.attention_head_size)

    def set_head_count(self, layer: Layer, heads: int) -> None:
        """Write the number of heads where the attention module keeps it."""
        count, width = self.head_count_at
        setattr(layer.attention, count, heads)
        if width is not None:
            setattr(layer.attention, width, heads * cast(int, layer.attention.attention_head_size))


def _mobile_parts(block: nn.Module) -> dict[str, Any]:
    """What only MobileBERT's layers have."""
    networks = getattr(block, "ffn", None)
    stacked = tuple(
        FeedForward(*map(each.get_submodule, ("intermediate.dense", "output.dense", "output.LayerNorm")))
        for each in (networks if isinstance(networks, nn.ModuleList) else ())
    )
    own: Any = getattr(block, "bottleneck", None)
    if own is None:
        return {"stacked": stacked}
    out = block.get_submodule("output.bottleneck")
    shared = getattr(own, "attention", None)
    found = Bottleneck(
        residual=own.input.dense,
        residual_norm=own.input.LayerNorm,
        shared=None if shared is None or own.use_bottleneck_attention else shared.dense,
        shared_norm=None if shared is None or own.use_bottleneck_attention else shared.LayerNorm,
        out=out.get_submodule("dense"),
        out_norm=out.get_submodule("LayerNorm"),
        attention_is_inside=own.use_bottleneck_attention,
    )
    return {"stacked": stacked, "bottleneck": found}


def _submodule(root: nn.Module, name: str) -> nn.Module | None:
    parent, _, leaf = name.rpartition(".")
    found = getattr(root.get_submodule(parent), leaf, None)
    return found if isinstance(found, nn.Module) else None


_BERT_LAYER = {
    "attention": "attention.self",
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "ffn_in": "intermediate.dense",
    "ffn_out": "output.dense",
    "ffn_norm": "output.LayerNorm",
}
_DISTILBERT_LAYER = {
    "attention": "attention",
    "query": "attention.q_lin",
    "key": "attention.k_lin",
    "value": "attention.v_lin",
    "attention_out": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "ffn_in": "ffn.lin1",
    "ffn_out": "ffn.lin2",
    "ffn_norm": "output_layer_norm",
}
_EMBEDDINGS = {
    "word": "embeddings.word_embeddings",
    "position": "embeddings.position_embeddings",
    "token_type": "embeddings.token_type_embeddings",
    "norm": "embeddings.LayerNorm",
}
_DENSE = ("hidden", "hidden")
_OUTPUT = ("hidden", None)
_HEADS: dict[str, tuple[str | None, str | None]] = {
    "pooler.dense": _DENSE,
    "classifier": _OUTPUT,
    "classifier.dense": _DENSE,
    "classifier.out_proj": _OUTPUT,
    "qa_outputs": _OUTPUT,
}
_BERT_HEAD = {
    **_HEADS,
    "cls.predictions.transform.dense": _DENSE,
    "cls.predictions.transform.LayerNorm": _DENSE,
    "cls.predictions.decoder": _OUTPUT,
    "cls.seq_relationship": _OUTPUT,
}
_ROBERTA_HEAD = {**_HEADS, "lm_head.dense": _DENSE, "lm_head.layer_norm": _DENSE, "lm_head.decoder": _OUTPUT}
_DISTILBERT_HEAD = {
    **_HEADS,
    "pre_classifier": _DENSE,
    "vocab_transform": _DENSE,
    "vocab_layer_norm": _DENSE,
    "vocab_projector": _OUTPUT,
}
_ELECTRA_HEAD = {
    **_HEADS,
    "generator_predictions.dense": ("hidden", "embedding"),
    "generator_predictions.LayerNorm": ("embedding", "embedding"),
    "generator_lm_head": ("embedding", None),
    "discriminator_predictions.dense": _DENSE,
    "discriminator_predictions.dense_prediction": _OUTPUT,
}
_MOBILEBERT_HEAD = {**_BERT_HEAD, "cls.predictions.dense": (None, None)}
_BERT_CONFIG = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "ffn": "intermediate_size",
}
_DISTILBERT_CONFIG = {"layers": "n_layers", "hidden": "dim", "heads": "n_heads", "ffn": "hidden_dim"}
_BERT_HEADS = ("num_attention_heads", "all_head_size")

FAMILIES = (
    Family(
        "bert", ("bert",), "encoder.layer", _EMBEDDINGS, _BERT_LAYER, _BERT_HEADS, _BERT_CONFIG, _BERT_HEAD,
    ),
    Family(
        "roberta", ("roberta", "xlm-roberta", "camembert"), "encoder.layer", _EMBEDDINGS, _BERT_LAYER,
        _BERT_HEADS, _BERT_CONFIG, _ROBERTA_HEAD,
    ),
    Family(
        "distilbert", ("distilbert",), "transformer.layer",
        {kind: name for kind, name in _EMBEDDINGS.items() if kind != "token_type"},
        _DISTILBERT_LAYER, ("n_heads", None), _DISTILBERT_CONFIG, _DISTILBERT_HEAD,
    ),
    Family(
        "electra", ("electra",), "encoder.layer", {**_EMBEDDINGS, "projection": "embeddings_project"},
        _BERT_LAYER, _BERT_HEADS, {**_BERT_CONFIG, "embedding": "embedding_size"}, _ELECTRA_HEAD,
    ),
    Family(
        "mobilebert", ("mobilebert",), "encoder.layer",
        {**_EMBEDDINGS, "projection": "embeddings.embedding_transformation"},
        _BERT_LAYER, _BERT_HEADS, _BERT_CONFIG, _MOBILEBERT_HEAD, is_narrowable=False,
    ),
)  # fmt: skip


def encoder_prefix(network: PreTrainedModel) -> str:
    """Name of the encoder inside ``network`` with a dot, or nothing where the network is the encoder."""
    return "" if network.base_model is network else f"{network.base_model_prefix}."


def is_known(model_type: str) -> bool:
    """Whether a family covers this value of ``config.model_type``."""
    return any(model_type in family.model_types for family in FAMILIES)


def family_of(network_or_model_type: PreTrainedModel | str) -> Family:
    """The family of a network or of a ``model_type``.

    Raises:
        InputError: No family covers it; the message names those that work.
    """
    found = network_or_model_type
    model_type = found if isinstance(found, str) else found.config.model_type
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    supported = ", ".join(sorted(name for family in FAMILIES for name in family.model_types))
    raise InputError(
        f"Models of type {model_type!r} are not supported. Supported: {supported}.",
        hint="Choose a model whose config.json has one of these model_type values.",
    )

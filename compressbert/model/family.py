"""What an architecture calls its parts, and how its layers follow each other.

A family is a table of names relative to the encoder or to one layer; everything else asks it for live modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from compressbert.model.parts import Bottleneck, Embeddings, FeedForward, Layer, NoPositions
from compressbert.nn.int8 import Int8Embedding, Int8Linear

WEIGHTED = (nn.Linear, nn.LayerNorm, nn.Embedding, Int8Linear, Int8Embedding)


@dataclass(frozen=True)
class Family:
    """Where one architecture keeps its parts.

    Attributes:
        name: bert, roberta, distilbert, electra, mobilebert, albert, mpnet or modernbert.
        model_types: Values of ``config.model_type`` it covers.
        layers_at: The list of layers, from the encoder.
        embeddings_at: Kind of embedding module to its name, from the encoder.
        layer_at: Kind of layer module (field of `Layer`) to its name, from the layer.
        head_count_at: Attributes of the attention module for the number of heads and for their total width; None where
            it keeps none.
        config_at: What a size is called in the config: layers, hidden, heads, ffn, embedding.
        head_at: Module after the encoder (a pooler's name is from the encoder) to the spaces it reads from and
            writes to: hidden, embedding, or None for anything else (labels, vocabulary).
        final_norm_at: A norm after the last layer, from the encoder.
        is_narrowable: Whether neurons and the residual stream can be cut and the config still says how wide.
        gives_tuples: Whether a layer gives its states as the first of a tuple.
        always_projects: Whether a stock network maps its embeddings even to a width that is their own.
    """

    name: str
    model_types: tuple[str, ...]
    layers_at: str
    embeddings_at: Mapping[str, str]
    layer_at: Mapping[str, str]
    head_count_at: tuple[str | None, str | None]
    config_at: Mapping[str, str]
    head_at: Mapping[str, tuple[str | None, str | None]]
    final_norm_at: str | None = None
    is_narrowable: bool = True
    always_projects: bool = False
    gives_tuples: bool = False

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

    def blocks(self, network: PreTrainedModel) -> list[nn.Module]:
        """The layers as modules, in the order in which they run.

        Where layers share their weights, one module stands there for each of them.
        """
        return list(cast(nn.ModuleList, network.get_submodule(self.path(network, "layers"))))

    def owners(self, network: PreTrainedModel) -> list[int]:
        """For every layer the first one that has the same weights: itself, unless layers share theirs."""
        blocks = self.blocks(network)
        return [blocks.index(block) for block in blocks]

    def run_blocks(self, network: PreTrainedModel, blocks: Sequence[nn.Module]) -> Callable[[], None]:
        """Let ``network`` run these layers in place of its own; returns the function that undoes it.

        Configs and edits do not know of it: for passes through parts of a network, and for copies.
        """
        parent, _, leaf = self.path(network, "layers").rpartition(".")
        holder = network.get_submodule(parent)
        before = getattr(holder, leaf)
        setattr(holder, leaf, nn.ModuleList(blocks))
        return lambda: setattr(holder, leaf, before)

    def keep_blocks(self, network: PreTrainedModel, kept: Sequence[int]) -> None:
        """Remove all layers but these, for good.

        Raises:
            ConfigError: Layers share their weights in a way that these alone cannot.
        """
        blocks = self.blocks(network)
        self.run_blocks(network, [blocks[index] for index in kept])

    def set_layers(self, config: PreTrainedConfig, layers: Sequence[int]) -> None:
        """Let ``config`` describe a network of these layers of the one it describes; beyond its own they are more.

        Raises:
            ConfigError: Layers come in sets of another size.
        """
        setattr(config, self.config_at["layers"], len(layers))

    def layers(self, network: PreTrainedModel) -> list[Layer]:
        """Every layer's modules, from the input up; layers that share weights have the same modules."""
        return self.layers_of(self.blocks(network))

    def layers_of(self, blocks: Iterable[nn.Module]) -> list[Layer]:
        """The modules of these layers of the family, wherever they stand."""
        return [
            Layer.of(
                {kind: block.get_submodule(name) for kind, name in self.layer_at.items()}
                | _mobile_parts(block)
            )
            for block in blocks
        ]

    def embeddings(self, network: PreTrainedModel) -> Embeddings:
        """The modules between token ids and the first layer."""
        encoder = network.base_model
        found = {kind: _submodule(encoder, name) for kind, name in self.embeddings_at.items()}
        offset = cast(int, network.config.pad_token_id) + 1 if self.name in ("roberta", "mpnet") else 0
        return Embeddings(
            word=encoder.get_submodule(self.embeddings_at["word"]),
            position=found.get("position") or NoPositions(network.config.max_position_embeddings),
            token_type=found.get("token_type"),
            norm=cast(nn.LayerNorm, found["norm"]),
            projection=found.get("projection"),
            position_offset=offset,
            trigram=bool(getattr(network.config, "trigram_input", False)),
        )

    def final_norm(self, network: PreTrainedModel) -> nn.Module | None:
        """The norm after the last layer, where an architecture has one."""
        return None if self.final_norm_at is None else network.base_model.get_submodule(self.final_norm_at)

    def head_modules(self, network: PreTrainedModel) -> dict[str, nn.Module]:
        """Every module with weights after the last layer (a norm, pooler, task head), by qualified name."""
        prefix = self.encoder_prefix(network)
        inside = (f"{prefix}{self.layers_at}.", f"{prefix}embeddings.", f"{prefix}{self._projection_at}")
        return {
            name: module
            for name, module in network.named_modules()
            if isinstance(module, WEIGHTED) and not name.startswith(inside)
        }

    @property
    def _projection_at(self) -> str:
        return self.embeddings_at.get("projection", "embeddings")

    def head_size(self, network: PreTrainedModel) -> int:
        """Width of one attention head, fixed when the model was built."""
        return self.layers(network)[0].head_size

    def check_vectors(self, network: PreTrainedModel) -> None:
        """Make sure that layers have queries, keys and values apart.

        Raises:
            ConfigError: They have not.
        """
        for layer in self.layers(network):
            layer.query  # noqa: B018 - refuses where it is not there

    def check_heads(self) -> None:
        """Make sure that heads can be cut.

        Raises:
            ConfigError: They cannot.
        """

    def set_head_count(self, layer: Layer, heads: int) -> None:
        """Write the number of heads where the attention module keeps it."""
        count, width = self.head_count_at
        if count is not None:
            setattr(layer.attention, count, heads)
        if width is not None:
            setattr(layer.attention, width, heads * layer.head_size)


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


def encoder_prefix(network: PreTrainedModel) -> str:
    """Name of the encoder inside ``network`` with a dot, or nothing where the network is the encoder."""
    return "" if network.base_model is network else f"{network.base_model_prefix}."

"""Families whose layers share their weights: ALBERT, whose layers are passes through one block, or through a few.

Z. Lan et al. ALBERT: A Lite BERT for Self-supervised Learning of Language Representations. ICLR 2020.
arXiv 1909.11942

A layer is one pass: a model of 12 passes has 12 layers, and 12 states to compare with a teacher's. What changes weights
changes them in all layers of a group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from compressbert.errors import ConfigError
from compressbert.model.family import Family


@dataclass(frozen=True)
class SharedFamily(Family):
    """A family whose list of layers is one of groups, each of which runs its blocks several times over.

    Attributes:
        blocks_at: The list of blocks, from the group.
        groups_at: What the number of groups is called in the config.
        inner_at: What the number of blocks in a group is called there.
    """

    blocks_at: str = "albert_layers"
    groups_at: str = "num_hidden_groups"
    inner_at: str = "inner_group_num"

    def path(self, network: PreTrainedModel, kind: str, layer: int | None = None) -> str:
        """Qualified name of a part; layers that share weights share their names."""
        if layer is None:
            return super().path(network, kind)
        start, block = super().path(network, "layers"), self.blocks(network)[layer]
        groups = network.get_submodule(start)
        name = next(name for name, module in groups.named_modules() if module is block)
        leaf = "" if kind == "layer" else f".{self.layer_at[kind]}"
        return f"{start}.{name}{leaf}"

    def blocks(self, network: PreTrainedModel) -> list[nn.Module]:
        """One block for each pass, in the order in which they run."""
        encoder: Any = self._encoder(network)
        groups = getattr(encoder, self._groups_name)
        found: list[nn.Module] = []
        for group in _order(encoder.config.num_hidden_layers, len(groups)):
            found += getattr(
                groups[group], self.blocks_at, [groups[group]]
            )  # a block that stands for a group
        return found

    def run_blocks(self, network: PreTrainedModel, blocks: Sequence[nn.Module]) -> Callable[[], None]:
        """Let ``network`` run these blocks, each once; returns the function that undoes it."""
        encoder: Any = self._encoder(network)
        before = encoder.config
        undo = super().run_blocks(network, blocks)
        encoder.config = SimpleNamespace(num_hidden_layers=len(blocks), **{self.groups_at: len(blocks)})

        def restore() -> None:
            undo()
            encoder.config = before

        return restore

    def keep_blocks(self, network: PreTrainedModel, kept: Sequence[int]) -> None:
        """Run fewer passes; groups that no pass needs are removed.

        Raises:
            ConfigError: The passes that are left would not take turns as a stock network's do.
        """
        config: Any = network.config
        inner = int(getattr(config, self.inner_at))
        depth = len(self.blocks(network))
        passes = [kept[start] // inner for start in range(0, len(kept), inner)]
        whole = [each * inner + block for each in passes for block in range(inner)]
        if whole != list(kept):
            raise ConfigError(
                f"Layers {list(kept)} cannot be kept alone: layers run in sets of {inner}.",
                hint=f"Keep whole sets: {', '.join(map(str, range(inner)))} is the first one.",
            )
        count = int(getattr(config, self.groups_at))
        order = _order(depth // inner, count)
        used = sorted({order[each] for each in passes})
        if [used.index(order[each]) for each in passes] != _order(len(passes), len(used)):
            raise ConfigError(
                f"Layers {list(kept)} cannot be kept alone: the {depth} layers share their weights in {count} groups, "
                "and the layers that are left must share theirs evenly.",
                hint=f"Keep as many of each {depth // count} layers that follow each other.",
            )
        encoder: Any = self._encoder(network)
        groups = getattr(encoder, self._groups_name)
        setattr(encoder, self._groups_name, nn.ModuleList(groups[index] for index in used))
        setattr(config, self.groups_at, len(used))
        self.set_layers(config, kept)

    def set_layers(self, config: PreTrainedConfig, layers: Sequence[int]) -> None:
        """Write the number of layers into ``config``, and no more groups than there are passes."""
        inner = int(getattr(config, self.inner_at))
        if len(layers) % inner:
            raise ConfigError(
                f"{len(layers)} layers cannot be built: layers run in sets of {inner}.",
                hint=f"Choose a multiple of {inner}.",
            )
        passes = len(layers) // inner
        setattr(config, self.config_at["layers"], passes)
        setattr(config, self.groups_at, min(int(getattr(config, self.groups_at)), passes))

    @property
    def _groups_name(self) -> str:
        return self.layers_at.rpartition(".")[2]

    def _encoder(self, network: PreTrainedModel) -> nn.Module:
        """The module that runs the groups; while it runs other blocks its config is not the network's."""
        name = super().path(network, "layers").rpartition(".")[0]
        return cast(nn.Module, network.get_submodule(name))


def _order(passes: int, groups: int) -> list[int]:
    """The group of each pass, as a stock network counts it."""
    return [int(each / (passes / groups)) for each in range(passes)]

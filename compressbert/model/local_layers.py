"""Families whose layers attend to the whole text or to a window around each token, by turns: ModernBERT.

B. Warner et al. Smarter, Better, Faster, Longer: A Modern Bidirectional Encoder for Fast, Memory Efficient, and Long
Context Finetuning and Inference. 2024. arXiv 2412.13663
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from compressbert.errors import ConfigError
from compressbert.model.family import Family

_GLOBAL_EVERY = 3  # of the published models


class LocalFamily(Family):
    """A family whose config says of every layer how far it attends; layers keep their kind wherever they go."""

    def keep_blocks(self, network: PreTrainedModel, kept: Sequence[int]) -> None:
        """Remove all layers but these, for good, and their kinds with them."""
        self.set_layers(network.config, kept)
        super().keep_blocks(network, kept)

    def set_layers(self, config: PreTrainedConfig, layers: Sequence[int]) -> None:
        """Write number and kinds of layers into ``config``; further ones take turns as in the published models.

        Raises:
            ConfigError: Another layer would come first. It has a norm that a stock network leaves out there.
        """
        if layers[0] != 0:
            raise ConfigError(
                f"Layer {layers[0]} cannot come first: the first layer of this architecture has no norm of its own, "
                "so a stock network would leave that of the layer out.",
                hint="Keep layer 0 among the others.",
            )
        settings: Any = config
        kinds = list(settings.layer_types)
        settings.layer_types = [kinds[layer] if layer < len(kinds) else _usual(layer) for layer in layers]
        super().set_layers(config, layers)

    def kinds(self, network: PreTrainedModel) -> list[str]:
        """How far each layer attends: ``full_attention`` or ``sliding_attention``."""
        return [str(block.attention_type) for block in self.blocks(network)]

    def reach(self, network: PreTrainedModel) -> int:
        """The largest distance between tokens that a layer of ``sliding_attention`` reads."""
        return int(network.config.sliding_window)

    def speeds(self, network: PreTrainedModel, kind: str) -> Tensor:
        """How far layers of this kind turn each pair of features from one position to the next, in radians."""
        return cast(Tensor, getattr(network.base_model.rotary_emb, f"{kind}_inv_freq"))


def _usual(layer: int) -> str:
    return "sliding_attention" if layer % _GLOBAL_EVERY else "full_attention"

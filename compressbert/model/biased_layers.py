"""Families whose attention adds a bias for the distance of two tokens, the same in every layer: MPNet.

K. Song et al. MPNet: Masked and Permuted Pre-training for Language Understanding. NeurIPS 2020. arXiv 2004.09297
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compressbert.errors import ConfigError
from compressbert.model.family import Family


@dataclass(frozen=True)
class BiasedFamily(Family):
    """A family with a table that holds, for each head, what is added to scores at every distance.

    Attributes:
        bias_at: The table, from the encoder; networks compute the rest from it.
    """

    bias_at: str = "encoder.relative_attention_bias"

    def head_modules(self, network: PreTrainedModel) -> dict[str, nn.Module]:
        """Every module with weights after the last layer, by qualified name; the table of biases is none of them."""
        found = super().head_modules(network)
        del found[f"{self.encoder_prefix(network)}{self.bias_at}"]
        return found

    def check_vectors(self, network: PreTrainedModel) -> None:
        """Refuse: scores are more than what queries and keys say."""
        raise ConfigError(
            f"The attention of {self.name} adds a bias to its scores, so that queries and keys alone do not tell it.",
            hint="Use a method that compares answers or states, as distilbert and pkd do; docs/families.md lists them.",
        )

    def check_heads(self) -> None:
        """Refuse: the table is one for all layers, so that no layer can lose a head by itself."""
        raise ConfigError(
            f"All layers of {self.name} read one table of biases with a row for each head, so heads cannot be cut.",
            hint="Remove layers or neurons: methods layerdrop and width.",
        )

    def biases(self, network: PreTrainedModel, count: int) -> Tensor:
        """What is added to scores at distances −(count − 1) to count − 1, key less query: (heads, 2 · count − 1)."""
        encoder: Any = network.base_model.get_submodule(self.bias_at.rpartition(".")[0])
        table = cast(Tensor, network.base_model.get_submodule(self.bias_at).weight)
        distances = torch.arange(1 - count, count, device=table.device)
        return table[encoder.relative_position_bucket(distances)].detach().t().contiguous()

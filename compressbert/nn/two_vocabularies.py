"""A word table and an output projection for two vocabularies at once: ids of the second follow those of the first."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class JointEmbedding(nn.Module):
    """Looks up ids below the first table's size there, and the others in a second table.

    Attributes:
        own: The first table, (V, H).
        other: The second, (W, w).
        projection: w to H, without bias; None where the widths are equal.
    """

    def __init__(self, own: nn.Embedding, other: Tensor) -> None:
        super().__init__()
        width, narrow = own.embedding_dim, other.shape[1]
        self.own = own
        self.other = nn.Embedding(other.shape[0], narrow, _weight=other.clone())
        self.projection: nn.Linear | None = None
        if narrow != width:
            self.projection = nn.Linear(narrow, width, bias=False)
            nn.init.eye_(self.projection.weight)

    def rows(self) -> Tensor:
        """(W, H): the second table as the network reads it."""
        table: Tensor = self.other.weight
        return table if self.projection is None else functional.linear(table, self.projection.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, S) ids to (B, S, H)."""
        size = self.own.num_embeddings
        second = ids >= size
        vectors: Tensor = self.own(ids.masked_fill(second, 0))
        found = self.other(ids[second] - size)
        if self.projection is not None:
            found = self.projection(found)
        return vectors.index_put((second,), found.to(vectors.dtype))


class JointOutput(nn.Module):
    """Predicts the pieces of both vocabularies; those of the second with its table and a bias of its own."""

    def __init__(self, own: nn.Linear, words: JointEmbedding) -> None:
        super().__init__()
        self.own = own
        self.bias = nn.Parameter(torch.zeros(words.other.num_embeddings))
        self._words = [words]  # in a list: a part of the network already

    def forward(self, states: Tensor) -> Tensor:
        """(B, S, H) to (B, S, V + W)."""
        other = functional.linear(states, self._words[0].rows().to(states.dtype), self.bias.to(states.dtype))
        return torch.cat([self.own(states), other], dim=-1)

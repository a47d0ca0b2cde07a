"""What a network computes on the way to its output: states after every layer, and the vectors its heads compare.

Attention matrices are not asked of transformers, which gives them in its slowest form only: they follow from
queries and keys. Nor are states: it notes once which layers there are, and layers come and go here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from torch import Tensor, nn
from transformers.utils import ModelOutput

from compressbert.model.handle import Model
from compressbert.nn.in_turn import hook_in_turn

_VECTORS = ("query", "key", "value")


@dataclass(frozen=True)
class Inside:
    """One pass through a network.

    Attributes:
        output: What the network returned.
        hidden: (B, S, H) of the embeddings' output and of every layer's, L + 1 tensors.
        vectors: For query, key and value: each layer's rows, (B, S, A·d).
        heads: Heads of each layer.
        scaling: Factor of q·k in each layer.
    """

    output: ModelOutput
    hidden: tuple[Tensor, ...]
    vectors: Mapping[str, Mapping[int, Tensor]]
    heads: tuple[int, ...]
    scaling: tuple[float, ...]

    def by_head(self, kind: str, layer: int) -> Tensor:
        """Queries, keys or values of a layer, (B, A, S, d)."""
        rows = self.vectors[kind][layer]
        batch, length, _ = rows.shape
        return rows.view(batch, length, self.heads[layer], -1).transpose(1, 2)

    def scores(self, layer: int) -> Tensor:
        """Attention scores of a layer before mask and softmax, (B, A, S, S)."""
        query, key = self.by_head("query", layer), self.by_head("key", layer)
        return query @ key.transpose(-1, -2) * self.scaling[layer]


def look_inside(model: Model, inputs: Mapping[str, Tensor], *, layers: tuple[int, ...] = ()) -> Inside:
    """Run ``model`` on ``inputs`` (B, S) and keep all states, and the vectors of ``layers``.

    Raises:
        ConfigError: Vectors are asked for, and the model's layers have none apart.
    """
    family, network = model.family, model.network
    found = family.layers(network)
    vectors: dict[str, dict[int, Tensor]] = {kind: {} for kind in _VECTORS}
    if layers:
        family.check_vectors(network)
    handles = []
    for kind in _VECTORS:
        if layers:
            modules = [getattr(layer, kind) for layer in found]
            handles += hook_in_turn(modules, after=vectors[kind].__setitem__, places=layers)
    try:
        with states_between(family.blocks(network)) as hidden:
            output = model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    return Inside(
        output=output,
        hidden=tuple(hidden),
        vectors=vectors,
        heads=tuple(layer.heads for layer in found),
        scaling=tuple(layer.scaling for layer in found),
    )


@contextmanager
def states_between(blocks: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """A list that a pass through ``blocks`` fills: what the first one reads, then what each gives."""
    seen: list[Tensor] = []

    def first(place: int, states: Tensor) -> None:
        if place == 0:
            seen.append(states)

    handles = hook_in_turn(blocks, before=first, after=lambda _, states: seen.append(states))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def first_layers(model: Model, count: int) -> Iterator[Model]:
    """Give ``model`` as a bare encoder that ends after its first ``count`` layers, while the block runs.

    The encoder shares its modules with ``model``, which has them all again afterwards.
    """
    family, encoder = model.family, model.network.base_model
    undo = family.run_blocks(model.network, family.blocks(model.network)[:count])
    try:
        yield replace(model, network=encoder, pooling=None)
    finally:
        undo()

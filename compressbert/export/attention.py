"""Writes attention as ONNX nodes, over rows of queries, keys and values.

Where the whole batch is computed at once, rows are sequence first and heads are views of them: `FusedMatMul`
reads (sequence, batch, heads, head size) with strides, so queries, keys and values are never transposed. Where
tokens are packed, one text after the other is computed in the same way, as a batch of one. Where texts are long, a
few heads at a time are computed from scores to context, so that their scores stay in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from onnx import TensorProto

from compressbert.export.graph import MICROSOFT, OWN, GraphBuilder
from compressbert.export.packing import Packing


class Added(Protocol):
    """What a layer adds to its scores, depending on where two tokens stand (`window.Window`, `relative.RelativeBias`).

    Attributes:
        short: Whether it is nothing in this batch, a boolean scalar; "" where it never is.
        grid: For batches whose every position is a row: (..., sequence, sequence).
    """

    @property
    def short(self) -> str: ...
    @property
    def grid(self) -> str: ...
    def of_first(self, name: str) -> str: ...
    def between(self, asking: list[str], asked: list[str], name: str) -> str: ...


Rows = tuple[str, str, str]  # of queries, keys and values
_HEADS_AT_A_TIME = (
    2  # heads whose scores are computed at a time where texts are long: 2 MB of them at 512 tokens
)


@dataclass(frozen=True)
class AttentionWriter:
    """Writes the attention of one layer after the other; holds what all of them share.

    Attributes:
        graph: Where to write.
        head_size: Features of a head.
        batch: The batch size, an int64 vector of one element.
        packing: How tokens are packed; None if every position is a row.
        mask: (batch, 1, 1, sequence) fp32, to be added to scores; "" where tokens are packed.
        kernel: Give batches without a mask to onnxruntime's own attention kernel.
    """

    graph: GraphBuilder
    head_size: int
    batch: str
    packing: Packing | None
    mask: str
    kernel: bool = False

    def __call__(
        self,
        query: str,
        key: str,
        value: str,
        heads: int,
        name: str,
        *,
        first: bool,
        added: Added | None = None,
    ) -> str:
        """Context rows, (rows of queries, heads · head size). The scaling is already in the queries.

        Args:
            query: (rows, heads · head size), or (batch, heads · head size) if ``first``.
            key: (rows, heads · head size).
            value: The same.
            heads: Of this layer.
            name: Of the attention.
            first: Only the first token of every text asks.
            added: What is added to the scores.
        """
        graph = self.graph
        views = self._views((query, key, value), heads, name, first=first)
        if self.packing is None:
            context = self._over_batch(views, heads, name, self.mask, first=first, added=added)
        else:
            context = self._over_rows(self.packing, views, heads, name, first=first, added=added)
        # Outside of branches, where this copies nothing.
        return graph.node("Reshape", [context, graph.integers(-1, heads * self.head_size)], f"{name}.rows")

    def _over_rows(
        self, packing: Packing, views: Rows, heads: int, name: str, *, first: bool, added: Added | None
    ) -> str:
        """Attention over packed rows: the whole batch at once, by heads or by texts, as the batch at hand is."""
        graph, given = self.graph, f"{name}.context_by_head"

        def full() -> str:
            return self._over_batch(views, heads, f"{name}.full", "", first=first, added=added)

        def padded() -> str:
            return self._within(
                added,
                f"{name}.padded",
                lambda stem, seen: self._by_text(views, stem, first=first, added=seen),
            )

        if first or added is not None or self.kernel or heads <= _HEADS_AT_A_TIME:
            return packing.choose(graph, given, full=full, padded=padded)
        (context,) = graph.branch(
            packing.short,
            {given: TensorProto.FLOAT},
            then=lambda: [full()],
            otherwise=lambda: [
                packing.choose(
                    graph,
                    f"{name}.context",
                    full=lambda: self._by_heads(views, heads, f"{name}.long.context"),
                    padded=padded,
                )
            ],
        )
        return context

    def _by_heads(self, views: Rows, heads: int, name: str) -> str:
        """Attention over (tokens, batch, heads, head size), a few heads after the others; the same numbers."""
        graph = self.graph
        parts = [min(_HEADS_AT_A_TIME, heads - start) for start in range(0, heads, _HEADS_AT_A_TIME)]
        given = ("queries", "keys", "values", "heads")

        def write() -> None:
            split = [
                graph.nodes(
                    "Split", [value, "heads"], [f"{value}.{part}" for part in range(len(parts))], axis=2
                )
                for value in given[:3]
            ]
            contexts = []
            for part, (query, key, value) in enumerate(zip(*split, strict=True)):
                scores = self._scores(query, key, f"scores.{part}")
                weights = graph.node("Softmax", [scores], f"weights.{part}", axis=-1)
                contexts.append(self._mixed(weights, value, f"context.{part}"))
            joined = graph.node("Concat", contexts, "context", axis=1)
            graph.node("Transpose", [joined], "context_tokens", perm=[2, 0, 1, 3])

        called = graph.function(f"AttentionIn{len(parts)}Parts", given, "context_tokens", write)
        return graph.node(called, [*views, graph.integers(*parts)], name, domain=OWN)

    def _views(self, rows: Rows, heads: int, name: str, *, first: bool) -> Rows:
        """Rows as (tokens, texts abreast, heads, head size): outside of branches, where this copies nothing."""
        graph = self.graph
        abreast = self.packing.abreast if self.packing else self.batch
        shape = f"heads_shape.{heads}"
        if not graph.has(shape):
            parts = [graph.integers(-1), abreast, graph.integers(heads, self.head_size)]
            graph.node("Concat", parts, shape, axis=0)
        q, k, v = (
            graph.node("Reshape", [value, shape], f"{name}.{part}")
            for part, value in zip("qkv", rows, strict=True)
        )
        return q, k, v

    def _within(self, added: Added | None, name: str, write: Callable[[str, Added | None], str]) -> str:
        """Attention that is written with and, where that is nothing, without what is added to its scores."""
        if added is None or not added.short:
            return write(name, added)
        (value,) = self.graph.branch(
            added.short,
            {f"{name}.seen": TensorProto.FLOAT},
            then=lambda: [write(f"{name}.near", None)],
            otherwise=lambda: [write(f"{name}.far", added)],
        )
        return value

    def _over_batch(
        self, views: Rows, heads: int, name: str, mask: str, *, first: bool, added: Added | None
    ) -> str:
        """Attention over (tokens, batch, heads, head size) at once; the result has the tokens first too."""

        def write(stem: str, seen: Added | None) -> str:
            if seen is None:
                return self._everywhere(views, heads, stem, mask)
            grid = seen.of_first(stem) if first else seen.grid
            both = self.graph.node("Add", [mask, grid], f"{stem}.mask") if mask else grid
            return self._attend(*views, stem, both)

        return self._within(added, name, write)

    def _everywhere(self, views: Rows, heads: int, name: str, mask: str) -> str:
        if self.kernel and not mask:
            return self._in_kernel(views, heads, name)
        return self._attend(*views, name, mask)

    def _in_kernel(self, views: Rows, heads: int, name: str) -> str:
        """The same in one node, which wants the batch first."""
        graph, width = self.graph, heads * self.head_size
        turned = []
        for part, value in zip("qkv", views, strict=True):
            by_position = graph.node(
                "Reshape", [value, graph.integers(0, 0, width)], f"{name}.{part}_by_position"
            )
            turned.append(graph.node("Transpose", [by_position], f"{name}.{part}", perm=[1, 0, 2]))
        context = graph.node(
            "MultiHeadAttention", turned, f"{name}.context", domain=MICROSOFT, num_heads=heads, scale=1.0
        )
        return graph.node("Transpose", [context], f"{name}.context_tokens", perm=[1, 0, 2])

    def _by_text(self, views: Rows, name: str, *, first: bool, added: Added | None) -> str:
        """Attention over (rows, 1, heads, head size), one text after the other."""
        graph, packing = self.graph, self.packing
        if packing is None:
            raise TypeError("without packing there is no telling texts apart")
        q, k, v = views

        def one_text(turn: str) -> list[str]:
            number = graph.node("Unsqueeze", [turn, graph.integers(0)], f"{name}.text")

            def bound(places: str, part: str) -> str:
                return graph.node("Gather", [places, number], f"{name}.{part}")

            end = bound(packing.ends, "end")
            if first:
                own = [number, graph.node("Add", [number, graph.integers(1)], f"{name}.next")]
            else:
                own = [bound(packing.starts, "start"), end]
            keys = [bound(packing.key_starts, "key_start"), end]
            asking = graph.node("Slice", [q, *own], f"{name}.q_of_text")
            asked = graph.node("Slice", [k, *keys], f"{name}.k_of_text")
            given = graph.node("Slice", [v, *keys], f"{name}.v_of_text")
            mask = ""
            if added is not None and first:
                start = bound(packing.starts, "start")
                after = graph.node("Add", [start, graph.integers(1)], f"{name}.after_start")
                mask = added.between([start, after], keys, name)
            elif added is not None:
                mask = added.between(own, keys, name)
            return [self._attend(asking, asked, given, name, mask)]

        (contexts,) = graph.for_each(self.batch, f"{name}.texts", one_text)
        return contexts

    def _attend(self, query: str, key: str, value: str, name: str, mask: str) -> str:
        """(tokens, batch, heads, head size) each; the result has the tokens of the queries."""
        graph = self.graph
        scores = self._scores(query, key, f"{name}.scores")
        if mask:
            scores = graph.node("Add", [scores, mask], f"{name}.masked")  # (batch, heads, queries, keys)
        weights = graph.node("Softmax", [scores], f"{name}.weights", axis=-1)
        context = self._mixed(weights, value, f"{name}.context")
        return graph.node("Transpose", [context], f"{name}.context_tokens", perm=[2, 0, 1, 3])

    def _scores(self, query: str, key: str, name: str) -> str:
        """(batch, heads, queries, keys) from (tokens, batch, heads, head size) each."""
        if self.packing is not None:
            strides = {"transBatchA": 1, "transBatchB": 1, "transB": 1}
            return self.graph.node("FusedMatMul", [query, key], name, domain=MICROSOFT, **strides)
        # Standard operators, which other runtimes know; onnxruntime fuses them to the same as above.
        asking = self.graph.node("Transpose", [query], f"{name}.q_by_head", perm=[1, 2, 0, 3])
        asked = self.graph.node("Transpose", [key], f"{name}.k_by_head", perm=[1, 2, 3, 0])
        return self.graph.node("MatMul", [asking, asked], name)

    def _mixed(self, weights: str, value: str, name: str) -> str:
        """(batch, heads, queries, head size) from weights and (tokens, batch, heads, head size)."""
        if self.packing is not None:
            return self.graph.node("FusedMatMul", [weights, value], name, domain=MICROSOFT, transBatchB=1)
        given = self.graph.node("Transpose", [value], f"{name}.v_by_head", perm=[1, 2, 0, 3])
        return self.graph.node("MatMul", [weights, given], name)

"""Writes attention as ONNX nodes, over rows of queries, keys and values that are sequence first.

Heads are views of the products: `FusedMatMul` reads (sequence, batch, heads, head size) with strides, so
queries, keys and values are never transposed.
"""

from __future__ import annotations

from dataclasses import dataclass

from compressbert.export.graph import MICROSOFT, GraphBuilder
from compressbert.export.packing import Packing


@dataclass(frozen=True)
class AttentionWriter:
    """Writes the attention of one layer after the other; holds what all of them share.

    Attributes:
        graph: Where to write.
        head_size: Features of a head.
        batch: The batch size, an int64 vector of one element.
        mask: (batch, 1, 1, sequence) fp32, to be added to scores; where tokens are packed, for the padded
            branch.
        packing: How tokens are packed; None if every position is a row.
    """

    graph: GraphBuilder
    head_size: int
    batch: str
    mask: str
    packing: Packing | None

    def __call__(self, query: str, key: str, value: str, heads: int, name: str, *, first: bool) -> str:
        """Context rows, (rows of queries, heads · head size). The scaling is already in the queries.

        Args:
            query: (rows, heads · head size), or (batch, heads · head size) if ``first``.
            key: (rows, heads · head size). value: the same.
            heads: Of this layer.
            name: Of the attention.
            first: Only the first token of every text asks.
        """
        graph, packing = self.graph, self.packing
        shape = f"heads_shape.{heads}"
        if not graph.has(shape):
            parts = [graph.integers(-1), self.batch, graph.integers(heads, self.head_size)]
            graph.node("Concat", parts, shape, axis=0)
        if packing is None:
            return self._attend((query, key, value), shape, heads, name, mask=self.mask)

        def padded() -> str:
            views = [
                rows
                if first and rows is query
                else graph.node("Gather", [rows, packing.rows], f"{rows}.padded")
                for rows in (query, key, value)
            ]
            context = self._attend(
                (views[0], views[1], views[2]), shape, heads, f"{name}.padded", mask=self.mask
            )
            return context if first else graph.node("Gather", [context, packing.places], f"{name}.packed")

        def full() -> str:
            return self._attend((query, key, value), shape, heads, f"{name}.full", mask=None)

        return packing.choose(graph, name, full=full, padded=padded)

    def _attend(
        self, rows: tuple[str, str, str], shape: str, heads: int, name: str, *, mask: str | None
    ) -> str:
        """Rows (tokens · batch, heads · head size), no matter which; the result has those of the queries."""
        graph = self.graph
        q, k, v = (graph.node("Reshape", [value, shape], f"{value}.heads_of.{name}") for value in rows)
        by_token = {"transBatchA": 1, "transBatchB": 1, "transB": 1}
        scores = graph.node("FusedMatMul", [q, k], f"{name}.scores", domain=MICROSOFT, **by_token)
        if mask is not None:
            scores = graph.node("Add", [scores, mask], f"{name}.masked")  # (batch, heads, queries, keys)
        weights = graph.node("Softmax", [scores], f"{name}.weights", axis=-1)
        context = graph.node("FusedMatMul", [weights, v], f"{name}.context", domain=MICROSOFT, transBatchB=1)
        tokens = graph.node("Transpose", [context], f"{name}.context_tokens", perm=[2, 0, 1, 3])
        width = graph.integers(-1, heads * self.head_size)
        return graph.node("Reshape", [tokens, width], f"{name}.context_rows")

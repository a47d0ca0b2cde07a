"""Writes the embeddings of any family as ONNX nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
from onnx import TensorProto
from torch import nn

from compressbert.export.packing import Packing, Sizes
from compressbert.export.products import Emitter, Table
from compressbert.model.handle import Model
from compressbert.model.parts import Embeddings, NoPositions


def input_names(model: Model) -> tuple[str, ...]:
    """What the graph takes; token types only if there are several and the tokenizer tells them."""
    table = model.family.embeddings(model.network).token_type
    told_apart = table is not None and int(table.num_embeddings) > 1  # type: ignore[arg-type]
    if told_apart and "token_type_ids" in model.tokenizer.model_input_names:
        return ("input_ids", "attention_mask", "token_type_ids")
    return ("input_ids", "attention_mask")


@dataclass(frozen=True)
class EmbeddingWriter:
    """Writes the sum of word, type and position embeddings, its norm and ELECTRA's or MobileBERT's projection."""

    emit: Emitter
    model: Model
    sizes: Sizes
    packing: Packing | None

    def __call__(self, name: str) -> str:
        """Write them; the result, called ``name``, is (rows, width)."""
        emit, embeddings = self.emit, self._embeddings
        tokens = self._either("embeddings.sum", self._all_rows, self._real_rows)
        holder = embeddings.word if self._has_no_positions else embeddings.position
        width = emit.graph.integers(-1, cast(int, holder.embedding_dim))
        rows = emit.graph.node("Reshape", [tokens, width], "embeddings.rows")
        if embeddings.trigram:
            trigrams = self._either("embeddings.trigrams", self._all_trigrams, self._real_trigrams)
            words = emit.dense(trigrams, cast(nn.Module, embeddings.projection), "embeddings.projected")
            rows = emit.graph.node("Sum", [words, rows], "embeddings.with_words")
        if embeddings.projection is None or embeddings.trigram:
            return emit.norm(rows, embeddings.norm, name)
        return emit.dense(emit.norm(rows, embeddings.norm, "embeddings.norm"), embeddings.projection, name)

    def _either(self, name: str, full: Callable[[], str], padded: Callable[[], str]) -> str:
        if self.packing is None:
            return full()
        return self.packing.choose(self.emit.graph, name, full=full, padded=padded)

    @property
    def _embeddings(self) -> Embeddings:
        return self.model.family.embeddings(self.model.network)

    def _all_rows(self) -> str:
        """The sum at every position, (sequence, batch, width)."""
        emit, graph, embeddings = self.emit, self.emit.graph, self._embeddings
        ids = graph.node("Transpose", ["input_ids"], "embeddings.ids", perm=[1, 0])  # (sequence, batch)
        terms = []  # (sequence, batch, width) each
        if not embeddings.trigram:
            terms.append(emit.rows(emit.table(embeddings.word), ids, "embeddings.word"))
        if self._types_are_input:
            types = graph.node("Transpose", ["token_type_ids"], "embeddings.type_ids", perm=[1, 0])
            terms.append(self._type_rows(types, "embeddings.token_type"))
        elif not self._type_is_folded:
            terms.append(self._type_rows(self._zero, "embeddings.token_type"))  # (width,)
        if self._has_no_positions:
            return graph.node("Sum", terms, "embeddings.all")
        if embeddings.position_offset:
            positions = self._counted_positions(ids, "embeddings.positions", axis=0)
            terms.append(emit.rows(self._position_table, positions, "embeddings.position"))
        else:
            rows = emit.first_rows(self._position_table, self.sizes.sequence, "embeddings.position_rows")
            rows = graph.node("Unsqueeze", [rows, graph.integers(1)], "embeddings.position")
            if embeddings.trigram:  # words come later, so that nothing else brings the texts abreast
                parts = [self.sizes.sequence, self.sizes.batch, graph.integers(1)]
                shape = graph.node("Concat", parts, "embeddings.grid", axis=0)
                rows = graph.node("Expand", [rows, shape], "embeddings.positions_abreast")
            terms.append(rows)
        return graph.node("Sum", terms, "embeddings.all")

    def _real_rows(self) -> str:
        """The sum at the places that are rows, (rows, width)."""
        emit, graph, embeddings, packing = self.emit, self.emit.graph, self._embeddings, self.packing
        if packing is None:
            raise TypeError("without packing every position is a row")

        def pick(grid: str, name: str) -> str:
            flat = graph.node("Reshape", [grid, graph.integers(-1)], f"{name}.flat")
            return graph.node("Gather", [flat, packing.places], name)

        terms = []
        if not embeddings.trigram:
            ids = pick("input_ids", "embeddings.packed.ids")
            terms.append(emit.rows(emit.table(embeddings.word), ids, "embeddings.packed.word"))
        if self._types_are_input:
            types = pick("token_type_ids", "embeddings.packed.type_ids")
            terms.append(self._type_rows(types, "embeddings.packed.token_type"))
        elif not self._type_is_folded:
            terms.append(self._type_rows(self._zero, "embeddings.packed.token_type"))
        if self._has_no_positions:
            return graph.node("Sum", terms, "embeddings.packed")
        if embeddings.position_offset:
            grid = self._counted_positions("input_ids", "embeddings.padded.positions", axis=1)
            positions = pick(grid, "embeddings.packed.positions")
        else:
            positions = graph.node(
                "Mod", [packing.places, self.sizes.sequence], "embeddings.packed.positions"
            )
        terms.append(emit.rows(self._position_table, positions, "embeddings.packed.position"))
        return graph.node("Sum", terms, "embeddings.packed")

    def _all_trigrams(self) -> str:
        """Words beside their neighbours at every position, (sequence · batch, 3 · width)."""
        graph = self.emit.graph
        ids = graph.node("Transpose", ["input_ids"], "embeddings.trigrams.ids", perm=[1, 0])
        grid = self._neighbours(ids, "embeddings.trigrams.all", axis=0)
        return self._flat(grid, "embeddings.trigrams.rows")

    def _real_trigrams(self) -> str:
        """The same at the places that are rows. A neighbour may be padding, which has a vector like any word."""
        graph = self.emit.graph
        if self.packing is None:
            raise TypeError("without packing every position is a row")
        grid = self._neighbours("input_ids", "embeddings.trigrams.padded", axis=1)
        rows = self._flat(grid, "embeddings.trigrams.places")
        return graph.node("Gather", [rows, self.packing.places], "embeddings.trigrams.packed")

    def _flat(self, grid: str, name: str) -> str:
        width = 3 * int(cast(int, self._embeddings.word.embedding_dim))
        return self.emit.graph.node("Reshape", [grid, self.emit.graph.integers(-1, width)], name)

    def _neighbours(self, ids: str, name: str, *, axis: int) -> str:
        """The next word's vector, the word's and the one's before, side by side; zeros beyond both ends.

        ids (a, b) with the sequence along ``axis`` to (a, b, 3 · width).
        """
        graph = self.emit.graph
        words = self.emit.rows(self.emit.table(self._embeddings.word), ids, f"{name}.word")
        along, end = graph.integers(axis), graph.integers(2**31 - 1)
        shifted = []
        for part, (start, stop), before in (("next", (1, 2**31 - 1), 0), ("previous", (0, -1), 1)):
            bounds = [graph.integers(start), end if stop > 0 else graph.integers(stop), along]
            cut = graph.node("Slice", [words, *bounds], f"{name}.{part}_cut")
            pads = [0] * 6
            pads[axis if before else 3 + axis] = 1
            shifted.append(graph.node("Pad", [cut, graph.integers(*pads)], f"{name}.{part}"))
        return graph.node("Concat", [shifted[0], words, shifted[1]], f"{name}.beside", axis=2)

    @property
    def _has_no_positions(self) -> bool:
        return isinstance(self._embeddings.position, NoPositions)

    @property
    def _types_are_input(self) -> bool:
        return "token_type_ids" in input_names(self.model)

    @property
    def _type_is_folded(self) -> bool:
        """Whether every token is of type 0 and that row can be part of the position table."""
        types, position = self._embeddings.token_type, self._embeddings.position
        if self._types_are_input or types is None:
            return types is None
        return isinstance(position, nn.Embedding) and isinstance(types, nn.Embedding)

    @property
    def _position_table(self) -> Table:
        folded = self._type_is_folded
        return self.emit.table(
            self._embeddings.position, added=self._embeddings.token_type if folded else None
        )

    @property
    def _zero(self) -> str:
        return self.emit.graph.constant(np.array(0, np.int64), "index.0")

    def _type_rows(self, ids: str, name: str) -> str:
        types = self._embeddings.token_type
        if types is None:
            raise TypeError("this family has no token types")
        return self.emit.rows(self.emit.table(types), ids, name)

    def _counted_positions(self, ids: str, name: str, *, axis: int) -> str:
        """Positions in the shape of the ids, counted along the axis of the sequence over the tokens that are not
        the padding token: for families that start after their padding index."""
        graph, offset = self.emit.graph, self._embeddings.position_offset
        padding = graph.constant(np.array(offset - 1, np.int64), f"index.{offset - 1}")
        is_pad = graph.node("Equal", [ids, padding], f"{name}.is_pad")
        real = graph.node(
            "Cast", [graph.node("Not", [is_pad], f"{name}.is_real")], f"{name}.real", to=TensorProto.INT64
        )
        along = graph.constant(np.array(axis, np.int64), f"index.{axis}")
        counted = graph.node("CumSum", [real, along], f"{name}.counted")
        return graph.node("Add", [graph.node("Mul", [counted, real], f"{name}.counted_real"), padding], name)

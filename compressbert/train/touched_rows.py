"""Gradients of word embeddings on a CPU, kept as the rows that a batch touched.

A batch reads a few hundred of some thirty thousand rows. A dense gradient is zeroed, measured and then thrown away
at every step: 47 MB each time for MiniLM, a tenth of a step's time. Here autograd gives the touched rows only; they
are clipped as rows and laid into one buffer that is otherwise zero, so the optimizer still sees the dense gradient
and its result is the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

FEWEST_ROWS = 1024  # smaller tables are cheaper dense


class TouchedRows:
    """The tables of one training and their gradients between backward pass and optimizer step."""

    def __init__(self, module: nn.Module, *, enabled: bool) -> None:
        """Find the tables of ``module``: large, trainable, and not tied to another module's weight."""
        self._tables = _tables(module) if enabled else []
        self._dense: dict[Tensor, Tensor] = {}  # parameter -> buffer (rows, width), zero between steps
        self._touched: dict[
            Tensor, tuple[Tensor, Tensor]
        ] = {}  # parameter -> row ids (n,), values (n, width)

    @contextmanager
    def sparse(self) -> Iterator[None]:
        """Let the tables give sparse gradients while the block runs."""
        for table in self._tables:
            table.sparse = True
        try:
            yield
        finally:
            for table in self._tables:
                table.sparse = False

    def gradients(self, parameters: Iterable[nn.Parameter]) -> list[Tensor]:
        """The gradients of ``parameters`` after a backward pass, of a table only the touched rows' (n, width).

        Their joint norm is that of the dense gradients; scaled in place, so are the dense ones by `spread`.
        """
        found = []
        for parameter in parameters:
            gradient = parameter.grad
            if gradient is None:
                continue
            if gradient.is_sparse:
                rows = gradient.coalesce()
                gradient = rows.values()
                self._touched[parameter] = rows.indices()[0], gradient
            found.append(gradient)
        return found

    def spread(self) -> None:
        """Give the tables dense gradients again, for the optimizer."""
        for parameter, (ids, values) in self._touched.items():
            if parameter not in self._dense:
                self._dense[parameter] = torch.zeros_like(parameter)
            parameter.grad = self._dense[parameter].index_copy_(0, ids, values)

    def clear(self) -> None:
        """Zero what `spread` wrote, after the optimizer's step."""
        for parameter, (ids, _) in self._touched.items():
            self._dense[parameter].index_fill_(0, ids, 0.0)
        self._touched.clear()


def _tables(module: nn.Module) -> list[nn.Embedding]:
    users = Counter(
        id(parameter) for part in module.modules() for parameter in part.parameters(recurse=False)
    )
    return [
        part
        for part in module.modules()
        if isinstance(part, nn.Embedding)
        and part.num_embeddings >= FEWEST_ROWS
        and part.weight.requires_grad
        and users[id(part.weight)] == 1
        and not (part.sparse or part.scale_grad_by_freq or part.max_norm)
    ]

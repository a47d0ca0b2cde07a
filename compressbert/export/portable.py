"""Whether an int8 file is exact on every CPU, and making it so. See `nn.saturation` for what goes wrong."""

from __future__ import annotations

from collections.abc import Iterator

from compressbert.model.handle import Model
from compressbert.nn.int8 import Int8Linear, saturating_pairs
from compressbert.results.record import Portability


def make_portable(model: Model) -> int:
    """Raise, in place, the scales of stored int8 rows that a CPU without VNNI would saturate; returns how many."""
    return sum(module.make_portable() for module in _products(model))


def portability(model: Model, *, rescaled_rows: int = 0) -> Portability:
    """What the bound on pairs of weights proves about this int8 model.

    Args:
        model: Not changed.
        rescaled_rows: What `make_portable` returned.
    """
    pairs = [saturating_pairs(module.matrix) for module in _products(model)]
    saturating = sum(int(found.sum()) for found in pairs)
    return Portability(
        valid_on="vnni" if saturating else "any",
        pairs=sum(found.numel() for found in pairs),
        saturating_pairs=saturating,
        rescaled_rows=rescaled_rows,
    )


def explain(found: Portability) -> str:
    """One sentence for the notes of a record; "" where there is nothing to say."""
    if found.saturating_pairs:
        return (
            f"{found.saturating_pairs} of {found.pairs} pairs of int8 weights saturate on CPUs without VNNI: "
            "use this file on others only, or export it with portable: true."
        )
    if found.rescaled_rows:
        return (
            f"{found.rescaled_rows} rows of int8 weights were given a larger scale, so that CPUs without VNNI "
            "do not saturate; the model folder still holds the old ones."
        )
    return ""


def _products(model: Model) -> Iterator[Int8Linear]:
    return (module for module in model.network.modules() if isinstance(module, Int8Linear))

"""What an exported file says about itself: labels, shape of the encoder, how it came about."""

from __future__ import annotations

import json
from typing import Any

from compressbert.export.graph import OLDEST_ONNXRUNTIME
from compressbert.model.families import is_known
from compressbert.model.handle import Model
from compressbert.model.local_layers import LocalFamily
from compressbert.nn.int8 import Int8Linear

# The int8 kernel for CPUs with AMX computes some rows of products wrongly, and differently on every call, unless their
# width is a multiple of 16 or smaller. Seen up to 1.24.4, and no more in 1.25.1.
_AMX_TILE = 16
_RIGHT_ON_AMX = "1.25"

_RIGHT_WITH_WINDOWS = "1.20"  # 1.18 ends the process when it opens such a graph

LOW_BIT = ("int4", "int8-weight-only")
OLDEST_LOW_BIT = (
    "1.23"  # 1.22 lacks packed tables of 4 bits and products of 8; newer than any operator set needs
)


def metadata_of(model: Model, *, precision: str, opset: int, known_family: bool = True) -> dict[str, str]:
    """Key to value for the file's ``metadata_props``; lists and mappings are JSON. No times, no places.

    Keys: ``labels`` (names in the order of the outputs; absent for heads without labels), ``problem_type`` if
    the config has one, ``precision``, ``model_type``, ``layers`` (heads and FFN width of each, for known
    families), ``lineage`` (one entry per method applied), ``oldest_onnxruntime``.
    """
    config = model.network.config
    facts: dict[str, Any] = {
        "precision": precision,
        "model_type": config.model_type,
        "oldest_onnxruntime": _oldest_onnxruntime(model, precision, opset),
        "lineage": model.history,
    }
    if type(model.network).__name__.endswith("Classification"):
        facts["labels"] = [config.id2label[index] for index in range(config.num_labels)]
        if getattr(config, "problem_type", None):
            facts["problem_type"] = config.problem_type
    if known_family:
        layers = model.family.layers(model.network)
        facts["layers"] = [{"heads": layer.heads, "ffn": layer.ffn} for layer in layers]
    return {key: value if isinstance(value, str) else _json(value) for key, value in facts.items()}


def _oldest_onnxruntime(model: Model, precision: str, opset: int) -> str:
    if ragged_widths(model):
        return _RIGHT_ON_AMX
    if precision in LOW_BIT:
        return OLDEST_LOW_BIT
    known = is_known(model.network.config.model_type)
    if known and isinstance(model.family, LocalFamily):
        return _RIGHT_WITH_WINDOWS
    return OLDEST_ONNXRUNTIME[opset]


def ragged_widths(model: Model) -> list[int]:
    """Widths of int8 products that onnxruntime before 1.25 computes wrongly on CPUs with AMX."""
    widths = {module.out_features for module in model.network.modules() if isinstance(module, Int8Linear)}
    return sorted(width for width in widths if width > _AMX_TILE and width % _AMX_TILE)


def ragged_note(model: Model) -> str:
    """What a user of such a file should know; "" for files without such products."""
    widths = ragged_widths(model)
    if not widths:
        return ""
    return (
        f"The int8 file needs onnxruntime {_RIGHT_ON_AMX} on CPUs with AMX: older ones compute products of width "
        f"{', '.join(map(str, widths[:4]))}{', …' if widths[4:] else ''} wrongly there. Multiples of 16 are safe."
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

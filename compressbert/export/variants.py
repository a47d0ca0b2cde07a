"""The number formats of an exported file: the model in the precision it is to be written in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from compressbert.config.schema import ExportConfig
from compressbert.errors import ConfigError
from compressbert.export.calibration import Range, fix_ranges
from compressbert.export.portable import make_portable, portability
from compressbert.model.edits import default_int8_modules, quantize_int8
from compressbert.model.handle import Model
from compressbert.nn.int8 import Int8Linear
from compressbert.results.record import Portability


@dataclass(frozen=True)
class Formats:
    """What data decided about single modules.

    Attributes:
        keep_fp32: Modules that are not quantized.
        ranges: Calibrated ranges of what int8 products read; empty for ranges taken at run time.
    """

    keep_fp32: tuple[str, ...] = ()
    ranges: Mapping[str, Range] = field(default_factory=dict)


def variant(
    model: Model, precision: Literal["fp32", "int8"], settings: ExportConfig, formats: Formats
) -> tuple[Model, Portability | None]:
    """The model in evaluation mode and in this precision, and where it is exact; the one given stays as it is.

    Raises:
        ConfigError: Static activations without calibrated ranges.
    """
    if precision == "fp32":
        return (model.copy().eval() if model.network.training else model), None
    if settings.activations == "static" and not formats.ranges:
        raise ConfigError(
            "Static int8 takes the ranges of activations from texts, and there are none.",
            hint="Add `data: {train: FILE}` to the config, or set export.activations: dynamic.",
        )
    made = model.copy().eval()
    if not model.is_int8:
        names = [name for name in default_int8_modules(model) if name not in formats.keep_fp32]
        quantize_int8(made, modules=names, portable=settings.portable)
    rescaled = make_portable(made) if settings.portable else 0
    if settings.activations == "static":
        fix_ranges(made, formats.ranges)
    return made, portability(made, rescaled_rows=rescaled)


def int8_products(model: Model) -> list[str]:
    """Names of the modules whose products are int8, or become so by default."""
    modules = dict(model.network.named_modules())
    if model.is_int8:
        return [name for name, module in modules.items() if isinstance(module, Int8Linear)]
    return [name for name in default_int8_modules(model) if hasattr(modules[name], "in_features")]

"""The number formats of an exported file: the model in the precision it is to be written in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from compressbert.config.schema import ExportConfig
from compressbert.errors import ConfigError
from compressbert.export.calibration import Range, fix_ranges
from compressbert.export.outliers import divide, outlier_divisors
from compressbert.export.portable import make_portable, portability
from compressbert.model.edits import default_int8_modules, quantize_int8
from compressbert.model.handle import Model
from compressbert.model.surgery import replace
from compressbert.nn.int8 import Int8Linear
from compressbert.nn.lowbit import LowBitEmbedding, LowBitLinear
from compressbert.results.record import Portability

Precision = Literal["fp32", "int8", "int4", "int8-weight-only"]

_BLOCK = 64  # columns of a matrix that share a scale: half a bit more a weight
_TABLE_BLOCK = 128  # of a row of the word table


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
    model: Model, precision: Precision, settings: ExportConfig, formats: Formats
) -> tuple[Model, Portability | None]:
    """The model in evaluation mode and in this precision, and where it is exact; the one given stays as it is.

    Raises:
        ConfigError: Static activations without calibrated ranges.
    """
    if precision == "fp32":
        return (model.copy().eval() if model.network.training else model), None
    if precision == "int8" and settings.activations == "static" and not formats.ranges:
        raise ConfigError(
            "Static int8 takes the ranges of activations from texts, and there are none.",
            hint="Add `data: {train: FILE}` to the config, or set export.activations: dynamic.",
        )
    made = model.copy().eval() if model.is_int8 else model.twin().eval()
    if not model.is_int8:
        names = [name for name in default_int8_modules(model) if name not in formats.keep_fp32]
        _convert(made, names, precision, settings)
    if precision != "int8":
        return made, None
    divide(made, divisors_for(model, settings, int8_products(made)), portable=settings.portable)
    rescaled = make_portable(made) if settings.portable and model.is_int8 else 0  # else they are made so
    if settings.activations == "static":
        fix_ranges(made, formats.ranges)
    return made, portability(made, rescaled_rows=rescaled)


def divisors_for(
    model: Model, settings: ExportConfig, products: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """What features are divided by before these modules (default: all int8 products) quantize them, if at all."""
    if not settings.outliers or settings.activations != "dynamic" or model.is_own:
        return {}
    return outlier_divisors(model, int8_products(model) if products is None else products)


def _convert(made: Model, names: list[str], precision: Precision, settings: ExportConfig) -> None:
    """Quantize these modules in place; a table of positions is int8 where words are int4, being small."""
    modules = dict(made.network.named_modules())
    word = made.family.path(made.network, "word")
    tables = [name for name in names if isinstance(modules[name], nn.Embedding)]
    products = [name for name in names if name not in tables]
    words = (
        settings.embeddings if settings.embeddings != "auto" else "int4" if precision == "int4" else "int8"
    )
    if words == "fp32":
        tables = []
    elif words == "int4" and word in tables:
        tables.remove(word)
        table = modules[word]
        if isinstance(table, nn.Embedding):
            replace(made.network, word, LowBitEmbedding.from_embedding(table, bits=4, block=_TABLE_BLOCK))
    if precision == "int8":
        quantize_int8(made, modules=products + tables, portable=settings.portable)
        return
    quantize_int8(made, modules=tables)
    for name in products:
        dense = modules[name]
        if isinstance(dense, nn.Linear):
            bits = 4 if precision == "int4" else 8
            replace(made.network, name, LowBitLinear.from_linear(dense, bits=bits, block=_BLOCK))


def stored_precision(model: Model) -> Precision:
    """The number format of a model's products."""
    for module in model.network.modules():
        if isinstance(module, LowBitLinear):
            return "int4" if module.bits == 4 else "int8-weight-only"
    return "int8" if model.is_int8 else "fp32"


def int8_products(model: Model) -> list[str]:
    """Names of the modules whose products are int8, or become so by default."""
    modules = dict(model.network.named_modules())
    if model.is_int8:
        return [name for name, module in modules.items() if isinstance(module, Int8Linear)]
    return [name for name in default_int8_modules(model) if hasattr(modules[name], "in_features")]

"""Dynamic int8: integer weights with a scale per row, activations quantized at run time; needs no data.

Paper: B. Jacob et al. Quantization for Integer-Arithmetic-Only Inference. CVPR 2018. arXiv 1712.05877
Kernels: the dynamic quantization of PyTorch and ONNX Runtime (operator DynamicQuantizeMatMul).

What is done: every matrix W of the encoder becomes W_q = round(W / s), int8 and symmetric, with s = max|row|
/ 127 for each output row. CPUs without VNNI add two neighbouring products x_q W_q in 16 bits; with
`portable` the scale of a row is raised, where that is needed, until no pair of weights of one sign adds up to
more than 128 = ⌊32767 / 255⌋, so that the sum cannot saturate. At run time the input of a matrix is quantized
to uint8 with one scale and zero point for the whole tensor, the product is summed in 32-bit integers, and

    y = s_x · s_w · W_q (x_q − z_x) + b

is handed on in fp32. Embedding tables become int8 rows with a scale each. LayerNorms, softmax, GELU, biases
and the two products inside attention stay fp32. The PyTorch module computes what ONNX Runtime's integer
kernel computes.

Differs from the paper and the tools: activation ranges are not learned or calibrated beforehand. ONNX
Runtime's own tool quantizes weights per tensor unless told otherwise and leaves embedding tables at fp32 or
per tensor; rows keep more precision at the same size. Against saturation it offers 7-bit weights, which
double the rounding error; raising a row's scale by what its largest pair needs adds about a fifth to it. The
range of an activation is that of the whole batch, so logits depend slightly on an example's batch mates.

Cost: none to speak of. Encoder matrices become 4 times smaller; with `embeddings` the whole model nearly so.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from pydantic import Field

from compressbert.errors import ConfigError
from compressbert.methods.base import MethodConfig, Run
from compressbert.model.edits import quantize_int8
from compressbert.model.handle import Model

NEEDS = ()

SURVEY = None

TRAIN_DEFAULTS: dict[str, float] = {}


class Config(MethodConfig):
    """Settings of dynamic_int8."""

    embeddings: bool = Field(True, description="Quantize the embedding tables too, row by row.")
    portable: bool = Field(
        True, description="Weights that are exact on CPUs without VNNI too, whose kernels saturate others."
    )
    exclude: tuple[str, ...] = Field(
        (), description="Modules to leave at fp32, as names or patterns: *.pooler.* or *.layer.0.*"
    )


def select_modules(names: Sequence[str], exclude: Sequence[str]) -> list[str]:
    """Return ``names`` without those that match a pattern of ``exclude``.

    Raises:
        ConfigError: A pattern matches nothing, so it is misspelt.
    """
    unused = [pattern for pattern in exclude if not any(fnmatchcase(name, pattern) for name in names)]
    if unused:
        raise ConfigError(
            f"exclude: {unused[0]!r} matches no module that would be quantized",
            hint=f"Names look like {', '.join(names[:2])}; * stands for any text.",
        )
    return [name for name in names if not any(fnmatchcase(name, pattern) for pattern in exclude)]


def compress(model: Model, config: Config, run: Run) -> Model:
    """Return an int8 copy of ``model``.

    Raises:
        ConfigError: The model is int8 already, or a pattern of ``exclude`` matches nothing.
    """
    quantized = model.copy().eval()
    quantize_int8(quantized, portable=config.portable)
    if len(quantized.edits) == len(model.edits):
        raise ConfigError(
            "This model is int8 already: nothing is left to quantize", hint="Give it the fp32 model."
        )
    names: list[str] = quantized.edits[-1].arguments["modules"]
    tables = embedding_names(model) if not config.embeddings else ()
    wanted = select_modules([name for name in names if name not in tables], config.exclude)
    if wanted != names:
        quantized = model.copy().eval()
        quantize_int8(quantized, modules=wanted, portable=config.portable)
    run.note(f"{len(wanted)} modules became int8.")
    return quantized


def embedding_names(model: Model) -> set[str]:
    """Return the qualified names of the embedding tables."""
    embeddings = model.family.embeddings(model.network)
    tables = {id(embeddings.word), id(embeddings.position), id(embeddings.token_type)}
    return {name for name, module in model.network.named_modules() if id(module) in tables}

"""Writes what comes after the encoder as ONNX nodes: a classifier, a masked-LM head, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from compressbert.export.encoder import Encoded, activation_name, batch_first, first_tokens
from compressbert.export.products import ACTIVATIONS, Emitter
from compressbert.model.handle import Model
from compressbert.nn.int8 import Int8Linear

HeadKind = Literal["classification", "masked-lm", "none"]

_CLASSIFICATION = {"bert": "tanh", "roberta": "tanh", "distilbert": "relu", "electra": "gelu"}
_MASKED_LM = {"bert": "", "roberta": "gelu", "distilbert": "", "electra": "gelu"}  # "": that of the FFN


@dataclass(frozen=True)
class Output:
    """What the graph gives: its name and its axes."""

    name: str
    axes: tuple[str | int, ...]


@dataclass(frozen=True)
class Head:
    """What lies after the encoder.

    Attributes:
        kind: Which head.
        reads_first_token: Whether the first token's row is all it reads.
        dense: Its products in the order in which they run.
        norm: LayerNorm between the two products of a masked-language-model head.
        activation: Between the two products.
    """

    kind: HeadKind
    reads_first_token: bool
    dense: tuple[nn.Module, ...] = ()
    norm: nn.LayerNorm | None = None
    activation: str = ""


def head_of(model: Model) -> Head | None:
    """The head of a model of a known family; None for one that is not written directly."""
    network, family = model.network, model.family
    modules = list(family.head_modules(network).values())
    dense = tuple(module for module in modules if isinstance(module, nn.Linear | Int8Linear))
    norms = [module for module in modules if isinstance(module, nn.LayerNorm)]
    others = len(modules) - len(dense) - len(norms)
    name = type(network).__name__
    if network.base_model is network:
        return Head("none", reads_first_token=False)
    if name.endswith("ForSequenceClassification") and (len(dense), len(norms), others) == (2, 0, 0):
        return Head("classification", True, dense, activation=_CLASSIFICATION[family.name])
    if name.endswith("ForMaskedLM") and (len(dense), len(norms), others) == (2, 1, 0):
        activation = _MASKED_LM[family.name] or activation_name(model)
        return Head("masked-lm", False, dense, norms[0], activation)
    return None


def refusal(model: Model) -> str:
    """Why a model of a known family cannot be written directly; "" if it can."""
    config = model.network.config
    if head_of(model) is None:
        return f"{type(model.network).__name__} has a head that is not written directly"
    if getattr(config, "is_decoder", False):
        return "the model is set up as a decoder"
    if activation_name(model) not in ACTIVATIONS:
        return f"the activation {activation_name(model) or 'of the FFN'} is not written directly"
    return ""


def write_head(emit: Emitter, head: Head, encoded: Encoded, *, width: int) -> Output:
    """Write the head over the encoder's rows of ``width`` features.

    Returns:
        ``logits``, (batch, labels) or (batch, sequence, vocabulary); without a head ``last_hidden_state``,
        (batch, sequence, width).
    """
    graph = emit.graph
    if head.kind == "none":
        hidden = batch_first(graph, encoded, width)
        graph.node("Identity", [hidden], "last_hidden_state")
        return Output("last_hidden_state", ("batch", "sequence", width))
    first, last = head.dense
    if head.kind == "classification":
        pooled = emit.dense(first_tokens(graph, encoded), first, "head.dense")
        pooled = emit.activation(pooled, head.activation, "head.activation")
        emit.dense(pooled, last, "logits")
        return Output("logits", ("batch", int(last.out_features)))  # type: ignore[arg-type]
    by_text = batch_first(graph, encoded, width)
    rows = graph.node("Reshape", [by_text, graph.integers(-1, width)], "head.rows")
    inner = emit.activation(emit.dense(rows, first, "head.dense"), head.activation, "head.activation")
    if head.norm is not None:
        inner = emit.norm(inner, head.norm, "head.norm")
    scores = emit.dense(inner, last, "head.scores")
    vocabulary = int(last.out_features)  # type: ignore[arg-type]
    parts = [encoded.sizes.batch, encoded.sizes.sequence, graph.integers(vocabulary)]
    graph.node("Reshape", [scores, graph.node("Concat", parts, "head.shape", axis=0)], "logits")
    return Output("logits", ("batch", "sequence", vocabulary))

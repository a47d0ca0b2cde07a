"""Writes what comes after the encoder as ONNX nodes: a classifier of texts or tokens, answers, a masked-LM head,
pooling, or nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np
from torch import Tensor, nn

from compressbert.export.encoder import Encoded, batch_first, first_tokens
from compressbert.export.graph import to_array
from compressbert.export.pooling import write_pooling
from compressbert.export.products import ACTIVATIONS, Emitter
from compressbert.model.handle import Model
from compressbert.model.local_layers import LocalFamily
from compressbert.model.pooling import Pooling
from compressbert.nn.int8 import Int8Linear

HeadKind = Literal["classification", "tokens", "answers", "masked-lm", "embedding", "none"]

_CLASSIFICATION = {
    "bert": "tanh",
    "roberta": "tanh",
    "distilbert": "relu",
    "electra": "gelu",
    "mobilebert": "tanh",
    "albert": "tanh",
    "mpnet": "tanh",
}
_PER_TOKEN: dict[str, HeadKind] = {
    "ForTokenClassification": "tokens",
    "ForQuestionAnswering": "answers",
}
_MASKED_LM = {
    "bert": "",
    "roberta": "gelu",
    "distilbert": "",
    "electra": "gelu",
    "mobilebert": "",
    "albert": "",
    "mpnet": "gelu",
}  # "": that of the FFN


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
        norm: LayerNorm before the last product.
        activation: Between the two products.
        pooling: Of a sentence encoder, or of a classifier that reads the mean of all tokens.
        beside: MobileBERT's vocabulary vectors are wider than its words': what stands beside them, transposed.
    """

    kind: HeadKind
    reads_first_token: bool
    dense: tuple[nn.Module, ...] = ()
    norm: nn.LayerNorm | None = None
    activation: str = ""
    pooling: Pooling | None = None
    beside: nn.Module | None = None


def head_of(model: Model) -> Head | None:
    """The head of a model of a known family; None for one that is not written directly."""
    network, family = model.network, model.family
    modules = list(family.head_modules(network).values())
    dense = tuple(module for module in modules if isinstance(module, nn.Linear | Int8Linear))
    modules = [module for module in modules if module is not family.final_norm(network)]
    norms = [module for module in modules if isinstance(module, nn.LayerNorm)]
    others = len(modules) - len(dense) - len(norms)
    if network.base_model is network:
        kind: HeadKind = "none" if model.pooling is None else "embedding"
        return Head(kind, reads_first_token=False, pooling=model.pooling)
    if isinstance(family, LocalFamily):
        return _deep_head(model, dense, norms)
    return _plain_head(model, dense, norms, others)


def _plain_head(
    model: Model, dense: tuple[nn.Module, ...], norms: list[nn.LayerNorm], others: int
) -> Head | None:
    name, family = type(model.network).__name__, model.family
    for ending, per_token in _PER_TOKEN.items():
        if name.endswith(ending) and (len(dense), len(norms), others) == (1, 0, 0):
            return Head(per_token, False, dense)
    if name.endswith("ForSequenceClassification") and (len(dense), len(norms), others) == (2, 0, 0):
        return Head("classification", True, dense, activation=_CLASSIFICATION[family.name])
    if name.endswith("ForMaskedLM") and (len(dense), len(norms), others) == (2, 1, 0):
        activation = _MASKED_LM[family.name] or model.activation
        return Head("masked-lm", False, dense, norms[0], activation)
    if name == "MobileBertForMaskedLM" and isinstance(dense[-1], nn.Linear):
        first, beside, last = dense
        return Head("masked-lm", False, (first, last), norms[0], model.activation, beside=beside)
    return None


def _deep_head(model: Model, dense: tuple[nn.Module, ...], norms: list[nn.LayerNorm]) -> Head | None:
    """ModernBERT's heads: all of them have a product, an activation and a norm before their last product."""
    name, config = type(model.network).__name__, model.network.config
    kinds: dict[str, HeadKind] = {"ForSequenceClassification": "classification", "ForMaskedLM": "masked-lm"}
    kind = next((kind for ending, kind in (kinds | _PER_TOKEN).items() if name.endswith(ending)), None)
    if kind is None or (len(dense), len(norms)) != (2, 1):
        return None
    head = Head(kind, False, dense, norms[0], config.classifier_activation)
    if kind != "classification":
        return head
    if config.classifier_pooling == "cls":
        return replace(head, reads_first_token=True)
    return replace(head, pooling=Pooling("mean", normalize=False))


def refusal(model: Model) -> str:
    """Why a model of a known family cannot be written directly; "" if it can."""
    config = model.network.config
    head = head_of(model)
    if head is None:
        return f"{type(model.network).__name__} has a head that is not written directly"
    if getattr(config, "is_decoder", False):
        return "the model is set up as a decoder"
    if model.activation not in ACTIVATIONS:
        return f"the activation {model.activation or 'of the FFN'} is not written directly"
    if head.activation and head.activation not in ACTIVATIONS:
        return f"the activation {head.activation} of its head is not written directly"
    if any(
        each["rope_type"] != "default" for each in (getattr(config, "rope_parameters", None) or {}).values()
    ):
        return "its rotary positions are scaled"
    return ""


def write_head(emit: Emitter, head: Head, encoded: Encoded, *, width: int) -> tuple[Output, ...]:
    """Write the head over the encoder's rows of ``width`` features.

    Returns:
        What the graph gives, the main output first: ``logits``, (batch, labels) or (batch, sequence, labels or
        vocabulary); ``start_logits`` and ``end_logits`` (batch, sequence); ``sentence_embedding`` (batch, width)
        and ``last_hidden_state`` (batch, sequence, width), or without a head the latter alone.
    """
    graph = emit.graph
    if head.kind in ("none", "embedding"):
        hidden = batch_first(graph, encoded, width)
        graph.node("Identity", [hidden], "last_hidden_state")
        states = Output("last_hidden_state", ("batch", "sequence", width))
        if head.pooling is None:
            return (states,)
        name = write_pooling(graph, head.pooling, hidden, "sentence_embedding")
        return Output(name, ("batch", width)), states
    if head.kind in ("tokens", "answers"):
        return _write_per_token(emit, head, encoded)
    last = head.dense[-1]
    if head.kind == "classification":
        if head.pooling is None:
            pooled = first_tokens(graph, encoded)
        else:
            pooled = write_pooling(graph, head.pooling, batch_first(graph, encoded, width), "head.pooled")
        emit.dense(_inner(emit, head, pooled), last, "logits")
        return (Output("logits", ("batch", int(last.out_features))),)  # type: ignore[arg-type]
    return _write_masked_lm(emit, head, encoded)


def _write_masked_lm(emit: Emitter, head: Head, encoded: Encoded) -> tuple[Output, ...]:
    """Scores of the vocabulary for the rows as the encoder leaves them, real tokens where a batch is padded.

    Putting the scores in order costs a copy of them. Scoring every position of a padded batch costs more.
    """
    graph, last = emit.graph, head.dense[-1]
    inner = _inner(emit, head, encoded.rows)
    if head.beside is None:
        scores = emit.dense(inner, last, "head.scores")
    else:
        scores = _wide_scores(emit, inner, last, head.beside)
    vocabulary = int(last.out_features)  # type: ignore[arg-type]
    logits = batch_first(graph, replace(encoded, rows=scores), vocabulary)
    graph.node("Identity", [logits], "logits")
    return (Output("logits", ("batch", "sequence", vocabulary)),)


def _inner(emit: Emitter, head: Head, rows: str) -> str:
    """What the last product of a head reads: ``rows`` themselves, or what comes out of the products before it."""
    for module in head.dense[:-1]:
        rows = emit.activation(emit.dense(rows, module, "head.dense"), head.activation, "head.activation")
    return rows if head.norm is None else emit.norm(rows, head.norm, "head.norm")


def _wide_scores(emit: Emitter, inner: str, words: nn.Module, beside: nn.Module) -> str:
    """Scores of the vocabulary, whose vectors are words' vectors (V, E) and what stands beside them (V, H − E)."""
    graph, path = emit.graph, emit.name_of(beside)
    parts = [to_array(cast(Tensor, words.weight)), to_array(cast(Tensor, beside.weight)).T]
    matrix = graph.constant(np.concatenate(parts, axis=1), f"{path}.joined.weight")
    bias = graph.constant(to_array(cast(Tensor, words.bias)), f"{path}.joined.bias")
    return graph.node("Gemm", [inner, matrix, bias], "head.scores", transB=1)


def _write_per_token(emit: Emitter, head: Head, encoded: Encoded) -> tuple[Output, ...]:
    """Products over the rows as the encoder leaves them; the few labels are put in order, not the states."""
    graph, last = emit.graph, head.dense[-1]
    labels = int(last.out_features)  # type: ignore[arg-type]
    scores = emit.dense(_inner(emit, head, encoded.rows), last, "head.scores")
    logits = batch_first(graph, replace(encoded, rows=scores), labels)
    if head.kind == "tokens":
        graph.node("Identity", [logits], "logits")
        return (Output("logits", ("batch", "sequence", labels)),)
    found = []
    for index, name in enumerate(("start_logits", "end_logits")):
        place = graph.constant(np.array(index, np.int64), f"index.{index}")
        graph.node("Gather", [logits, place], name, axis=2)
        found.append(Output(name, ("batch", "sequence")))
    return tuple(found)

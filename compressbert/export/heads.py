"""Writes what comes after the encoder as ONNX nodes: a classifier of texts or tokens, answers, a masked-LM head,
pooling, or nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np
from torch import Tensor, nn

from compressbert.export.encoder import Encoded, activation_name, batch_first, first_tokens
from compressbert.export.graph import to_array
from compressbert.export.pooling import write_pooling
from compressbert.export.products import ACTIVATIONS, Emitter
from compressbert.model.handle import Model
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
        norm: LayerNorm between the two products of a masked-language-model head.
        activation: Between the two products.
        pooling: Of a sentence encoder.
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
    norms = [module for module in modules if isinstance(module, nn.LayerNorm)]
    others = len(modules) - len(dense) - len(norms)
    name = type(network).__name__
    if network.base_model is network:
        kind: HeadKind = "none" if model.pooling is None else "embedding"
        return Head(kind, reads_first_token=False, pooling=model.pooling)
    for ending, per_token in _PER_TOKEN.items():
        if name.endswith(ending) and (len(dense), len(norms), others) == (1, 0, 0):
            return Head(per_token, False, dense)
    if name.endswith("ForSequenceClassification") and (len(dense), len(norms), others) == (2, 0, 0):
        return Head("classification", True, dense, activation=_CLASSIFICATION[family.name])
    if name.endswith("ForMaskedLM") and (len(dense), len(norms), others) == (2, 1, 0):
        activation = _MASKED_LM[family.name] or activation_name(model)
        return Head("masked-lm", False, dense, norms[0], activation)
    if name == "MobileBertForMaskedLM" and isinstance(dense[-1], nn.Linear):
        first, beside, last = dense
        return Head("masked-lm", False, (first, last), norms[0], activation_name(model), beside=beside)
    return None


def refusal(model: Model) -> str:
    """Why a model of a known family cannot be written directly; "" if it can."""
    config = model.network.config
    if model.family.name not in _CLASSIFICATION:
        return f"the layers of {model.family.name} are not written directly"
    if head_of(model) is None:
        return f"{type(model.network).__name__} has a head that is not written directly"
    if getattr(config, "is_decoder", False):
        return "the model is set up as a decoder"
    if activation_name(model) not in ACTIVATIONS:
        return f"the activation {activation_name(model) or 'of the FFN'} is not written directly"
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
    first, last = head.dense
    if head.kind == "classification":
        pooled = emit.dense(first_tokens(graph, encoded), first, "head.dense")
        pooled = emit.activation(pooled, head.activation, "head.activation")
        emit.dense(pooled, last, "logits")
        return (Output("logits", ("batch", int(last.out_features))),)  # type: ignore[arg-type]
    return _write_masked_lm(emit, head, encoded)


def _write_masked_lm(emit: Emitter, head: Head, encoded: Encoded) -> tuple[Output, ...]:
    """Scores of the vocabulary for the rows as the encoder leaves them, real tokens where a batch is padded.

    Putting the scores in order costs a copy of them. Scoring every position of a padded batch costs more.
    """
    graph, (first, last) = emit.graph, head.dense
    inner = emit.activation(emit.dense(encoded.rows, first, "head.dense"), head.activation, "head.activation")
    if head.norm is not None:
        inner = emit.norm(inner, head.norm, "head.norm")
    if head.beside is None:
        scores = emit.dense(inner, last, "head.scores")
    else:
        scores = _wide_scores(emit, inner, last, head.beside)
    vocabulary = int(last.out_features)  # type: ignore[arg-type]
    logits = batch_first(graph, replace(encoded, rows=scores), vocabulary)
    graph.node("Identity", [logits], "logits")
    return (Output("logits", ("batch", "sequence", vocabulary)),)


def _wide_scores(emit: Emitter, inner: str, words: nn.Module, beside: nn.Module) -> str:
    """Scores of the vocabulary, whose vectors are words' vectors (V, E) and what stands beside them (V, H − E)."""
    graph, path = emit.graph, emit.name_of(beside)
    parts = [to_array(cast(Tensor, words.weight)), to_array(cast(Tensor, beside.weight)).T]
    matrix = graph.constant(np.concatenate(parts, axis=1), f"{path}.joined.weight")
    bias = graph.constant(to_array(cast(Tensor, words.bias)), f"{path}.joined.bias")
    return graph.node("Gemm", [inner, matrix, bias], "head.scores", transB=1)


def _write_per_token(emit: Emitter, head: Head, encoded: Encoded) -> tuple[Output, ...]:
    """One product over the rows as the encoder leaves them; the few labels are put in order, not the states."""
    graph, (last,) = emit.graph, head.dense
    labels = int(last.out_features)  # type: ignore[arg-type]
    scores = emit.dense(encoded.rows, last, "head.scores")
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

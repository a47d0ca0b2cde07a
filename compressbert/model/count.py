"""Counting a model: parameters, stored bytes and multiply-accumulates, from the actual shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from compressbert.model.biased_layers import BiasedFamily
from compressbert.model.families import family_of
from compressbert.model.family import encoder_prefix
from compressbert.model.handle import Model
from compressbert.model.parts import Layer
from compressbert.model.source import weight_files
from compressbert.model.weights import distinct
from compressbert.nn.int8 import Int8Linear
from compressbert.results.record import ModelFacts

COMPONENTS = ("embeddings", "attention", "ffn", "head", "rest")
SEQUENCE = 128


def facts(model: Model, folder: Path | None = None) -> ModelFacts:
    """Size of a model; a tied tensor counts once.

    Int8 weights and their biases count as parameters. Their scales count in bytes only: they describe the
    number format.

    Args:
        model: What to count.
        folder: Where it is saved; ``bytes_on_disk`` is then the size of the weight files, else that of the
            tensors.
    """
    tensors = distinct(model.network)
    parameters = {name: tensor for name, tensor in tensors.items() if not name.endswith(".scale")}
    layers = _layers(model)
    inside = _encoder_starts(model)
    encoder = [tensor for name, tensor in parameters.items() if name.startswith(inside)]
    nonzero = {name: int(tensor.count_nonzero()) for name, tensor in parameters.items()}
    return ModelFacts(
        parameters=_elements(parameters.values()),
        nonzero_parameters=sum(nonzero.values()),
        distinct_tensors=len(tensors),
        encoder_parameters=_elements(encoder),
        encoder_nonzero_parameters=sum(count for name, count in nonzero.items() if name.startswith(inside)),
        bytes_on_disk=stored_bytes(folder) if folder is not None else sum(map(_bytes, tensors.values())),
        bytes_by_component=_by_component(model, tensors),
        layers=len(layers),
        heads_per_layer=tuple(layer.heads for layer in layers),
        ffn_per_layer=tuple(layer.ffn for layer in layers),
        hidden=layers[0].hidden if layers else model.width,
        macs_per_token=macs_per_token(model),
    )


def macs_per_token(model: Model, sequence: int = SEQUENCE) -> int:
    """Multiply-accumulates of the layers per token, in sequences of this length; an own network counts its own.

    Per layer one for each weight of its matrices (with hidden width H, heads·d attention units and I neurons:
    4·H·heads·d for the projections, 2·H·I for the FFN) and 2·S·heads·d for scores and their use, which are computed for
    all pairs of tokens even where a window hides some. Embeddings, pooler and head are left out.
    """
    if model.is_own:
        return int(cast(Any, model.network.base_model).macs_per_token)
    family, network = model.family, model.network
    size = family.head_size(network)
    units = sum(layer.heads * size for layer in family.layers(network))
    weights = sum(
        module.in_features * module.out_features
        for block in family.blocks(network)  # one that several layers share works in each of them
        for module in block.modules()
        if isinstance(module, nn.Linear | Int8Linear)
    )
    return weights + 2 * sequence * units


def stored_bytes(folder: Path) -> int:
    """Bytes of the weight files of a model folder."""
    return sum(file.stat().st_size for file in set(weight_files(folder).values()))


def _by_component(model: Model, tensors: dict[str, Tensor]) -> dict[str, int]:
    parts = _prefixes(model)
    total: Counter[str] = Counter(dict.fromkeys(COMPONENTS, 0))
    for name, tensor in tensors.items():
        component = next((part for start, part in parts if name.startswith(start)), "rest")
        total[component] += _bytes(tensor)
    return dict(total)


def _layers(model: Model) -> list[Layer]:
    """The transformer layers; an own network may have BERT's, or none."""
    if not model.is_own:
        return model.family.layers(model.network)
    return family_of("bert").layers_of(getattr(model.network.base_model, "layers", ()))


def _encoder_starts(model: Model) -> tuple[str, ...]:
    """What the names of the encoder's tensors start with, embeddings and pooler left out."""
    if not model.is_own:
        return (model.family.path(model.network, "layers") + ".",)
    prefix = encoder_prefix(model.network)
    parts = [name for name, _ in model.network.base_model.named_children() if name != "embeddings"]
    return tuple(f"{prefix}{name}." for name in parts)


def _prefixes(model: Model) -> list[tuple[str, str]]:
    """Beginning of a tensor's name to its component, the first match wins."""
    network, prefix = model.network, encoder_prefix(model.network)
    found = [(f"{prefix}embeddings", "embeddings")]
    if model.is_own:
        for index in range(len(_layers(model))):
            found.append((f"{prefix}layers.{index}.attention.", "attention"))
            found.append((f"{prefix}layers.{index}.", "ffn"))
    else:
        family = model.family
        if family.embeddings(network).projection is not None:
            found.append((f"{family.path(network, 'projection')}.", "embeddings"))
        if isinstance(family, BiasedFamily):
            found.append((f"{prefix}{family.bias_at}.", "attention"))
        for index in range(len(family.layers(network))):
            for kind in family.layer_at.keys() & _LAYER_PARTS.keys():
                found.append((f"{family.path(network, kind, index)}.", _LAYER_PARTS[kind]))
            if family.name == "mobilebert":
                layer = family.path(network, "layer", index)
                found += [(f"{layer}.ffn.", "ffn"), (f"{layer}.output.", "ffn")]
    found += [(f"{prefix}pooler.", "head")]
    if prefix:  # everything beside the encoder is the task's head
        found += [(prefix, "rest"), ("", "head")]
    return found


_LAYER_PARTS = {
    "query": "attention",
    "key": "attention",
    "value": "attention",
    "joined": "attention",
    "attention_out": "attention",
    "attention_norm": "attention",
    "ffn_in": "ffn",
    "gated": "ffn",
    "ffn_out": "ffn",
    "ffn_norm": "ffn",
}


def _elements(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()

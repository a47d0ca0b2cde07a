"""Self-contained code for folders that no stock class can express, so that plain transformers opens them.

A network of `architectures` brings the file that defines it. For an edited stock network `config.json` lists the
modules that differ from the stock network (a manifest), and `modeling_compressbert.py` puts modules of those kinds
and shapes in their places before the weights are loaded. The int8 modules in that file are the source of
`nn/int8.py` itself.
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from string import Template
from typing import Any, cast

import torch
from torch import nn
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)
from transformers.initialization import no_init_weights

from compressbert.model import architectures
from compressbert.nn import int8
from compressbert.nn.int8 import Int8Embedding, Int8Linear

FILE = "modeling_compressbert.py"
KEY = "compressbert"

_AUTO = (
    AutoModelForSequenceClassification,
    AutoModelForMaskedLM,
    AutoModelForTokenClassification,
    AutoModelForQuestionAnswering,
    AutoModelForPreTraining,
)

_HEADER = Template('''\
"""Opens this model with plain transformers: AutoModel….from_pretrained(folder, trust_remote_code=True).

Written by compressbert; needs torch and transformers only. The entry "$key" of config.json lists the modules
that differ from the stock network: removed heads and neurons make them narrower, quantization makes them
int8.
"""

from __future__ import annotations
$imports
from torch import Tensor, nn
from transformers import $stock

''')

_INT8_IMPORTS = """
from collections.abc import Callable
from functools import cache
from typing import Any

import torch"""

_REBUILD = '''

def _part(old: nn.Module, kind: str, shape: list[int], bias: bool, eps: float = 0.0) -> nn.Module:
    if kind == "linear":
        return nn.Linear(shape[1], shape[0], bias=bias)
    if kind == "layer_norm":
        return nn.LayerNorm(shape[0], eps=eps, bias=bias)
    if kind == "embedding":
        return nn.Embedding(shape[0], shape[1], padding_idx=old.padding_idx)
$int8    raise ValueError(f"config.json lists a module of unknown kind {kind}")


class _Rebuilt:
    """A stock network whose changed modules are put in their places before weights are loaded."""

    def __init__(self, config, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        inside = "" if self.base_model is self else self.base_model_prefix + "."
        stored = config.$key["encoder"]
        for name, part in config.$key["modules"].items():
            if name.startswith(stored):
                name = inside + name[len(stored) :]
            elif self.base_model is self:
                continue  # a head, when the bare encoder is opened
            parent, _, leaf = name.rpartition(".")
            parent = self.get_submodule(parent)
            setattr(parent, leaf, _part(getattr(parent, leaf), **part))
        self.post_init()
'''

_INT8_PARTS = """\
    if kind == "int8_linear":
        return Int8Linear(shape[1], shape[0], bias=bias)
    if kind == "int8_embedding":
        return Int8Embedding(shape[0], shape[1], padding_idx=old.padding_idx)
"""

_CLASS = '''

class Compressed$name(_Rebuilt, $name):
    """$name as this folder stores it."""
'''

_NO_POOLER = """
    def __init__(self, config, *args, **kwargs):
        super().__init__(config, *args, **{"add_pooling_layer": False, **kwargs})
"""


@dataclass(frozen=True)
class Code:
    """What a folder needs beside its weights.

    Attributes:
        entries: Of `config.json`: they lead transformers to the code.
        text: Of `modeling_compressbert.py`.
    """

    entries: dict[str, Any]
    text: str


def code_of(network: PreTrainedModel) -> Code | None:
    """The code with which plain transformers opens this network; None where a stock class does without."""
    model_type = network.config.model_type
    if architectures.is_own(model_type):
        references = {"AutoConfig": architectures.config_class(model_type).__name__}
        for auto, found in architectures.networks_of(model_type).items():
            if auto == "AutoModel" or found is type(network):
                references[auto] = found.__name__
        return Code({"auto_map": _in_file(references)}, architectures.source_of(model_type))
    parts = manifest(network)
    return Code(config_entries(network, parts), source_code(network, parts)) if parts else None


def _in_file(classes: dict[str, str]) -> dict[str, str]:
    return {auto: f"{FILE.removesuffix('.py')}.{name}" for auto, name in classes.items()}


def manifest(network: PreTrainedModel) -> dict[str, dict[str, Any]]:
    """Modules that differ in kind or shape from the stock network built from ``network.config``.

    Empty where a stock class opens the folder without any code.
    """
    with torch.device("meta"), no_init_weights():
        plain = type(network)(copy.deepcopy(network.config))
    usual = {name: _describe(module) for name, module in plain.named_modules()}
    found = {name: _describe(module) for name, module in network.named_modules()}
    return {name: part for name, part in found.items() if part is not None and part != usual.get(name)}


def config_entries(network: PreTrainedModel, parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Entries of `config.json` that lead transformers to the code and the code to the manifest."""
    prefix = "" if network.base_model is network else f"{network.base_model_prefix}."
    references = {auto: f"Compressed{name}" for auto, name in _classes(network).items()}
    return {"auto_map": _in_file(references), KEY: {"encoder": prefix, "modules": parts}}


def source_code(network: PreTrainedModel, parts: dict[str, dict[str, Any]]) -> str:
    """Text of `modeling_compressbert.py` for this network."""
    with_int8 = any(part["kind"].startswith("int8") for part in parts.values())
    classes = sorted(set(_classes(network).values()))
    imports = _INT8_IMPORTS if with_int8 else ""
    text = _HEADER.substitute(key=KEY, imports=imports, stock=", ".join(classes))
    if not with_int8:
        text = text.replace("from torch import Tensor, nn", "from torch import nn")
    else:
        text += "\n" + _int8_source()
    text += _REBUILD.replace("$key", KEY).replace("$int8", _INT8_PARTS if with_int8 else "")
    encoder = type(network.base_model).__name__
    for name in classes:
        text += _CLASS.replace("$name", name)
        if name == encoder and getattr(network.base_model, "pooler", network) is None:
            text += _NO_POOLER
    return text


def _int8_source() -> str:
    text = inspect.getsource(int8)
    return text[text.index("def quantize_rows") :]


def _classes(network: PreTrainedModel) -> dict[str, str]:
    """Auto class to the stock class it opens: the bare encoder, and the class with the stored head."""
    config = type(network.config)
    found = {"AutoModel": type(network.base_model).__name__}
    for auto in _AUTO:
        if auto._model_mapping.get(config, None) is type(network):
            found[auto.__name__] = type(network).__name__
    return found


def _describe(module: nn.Module) -> dict[str, Any] | None:
    kinds: tuple[tuple[type[nn.Module], str], ...] = (
        (nn.Linear, "linear"),
        (nn.LayerNorm, "layer_norm"),
        (nn.Embedding, "embedding"),
        (Int8Linear, "int8_linear"),
        (Int8Embedding, "int8_embedding"),
    )
    for kind_class, kind in kinds:
        if isinstance(module, kind_class):
            shape = list(cast(torch.Tensor, module.weight).shape[-2:])
            found = {"kind": kind, "shape": shape, "bias": getattr(module, "bias", None) is not None}
            return found | ({"eps": module.eps} if isinstance(module, nn.LayerNorm) else {})
    return None

"""Students of another shape than their teacher: stock networks, started from a cut of it or at random."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from compressbert.config.schema import TaskKind
from compressbert.errors import ConfigError
from compressbert.model import stock
from compressbert.model.edits import keep_layers
from compressbert.model.handle import Model

Init = Literal["teacher", "random"]


@dataclass(frozen=True)
class Shape:
    """Sizes of a student; None keeps the teacher's.

    Attributes:
        layers: The teacher's layers it starts from, one for each of its own; at random only their number counts.
        hidden: Width between layers; a multiple of the heads.
        heads: Attention heads in each layer.
        ffn: Neurons of each feed-forward network.
    """

    layers: tuple[int, ...]
    hidden: int | None = None
    heads: int | None = None
    ffn: int | None = None


def build_student(teacher: Model, shape: Shape, *, init: Init, seed: int = 0) -> Model:
    """A student of ``shape`` with the teacher's tokenizer, head and label names, in evaluation mode.

    Args:
        teacher: Left as it is.
        shape: Layers and widths.
        init: ``teacher`` copies the layers, embeddings and head; where the student is narrower, the leading features
            of each (of every head, its leading features). ``random`` draws all weights as transformers does.
        seed: Of the random weights.

    Raises:
        ConfigError: A size is impossible, or larger than the teacher's where its weights are to be cut.
    """
    sizes = _sizes(teacher, shape)
    if init == "teacher":
        _check_layers(teacher, shape.layers)
    if init == "teacher" and sizes == _own_sizes(teacher) | {"layers": len(shape.layers)}:
        student = teacher.copy().eval()
        student.network.requires_grad_(True)
        keep_layers(student, shape.layers)
        return student
    config = copy.deepcopy(teacher.network.config)
    for kind, size in sizes.items():
        if kind != "layers":
            setattr(config, teacher.family.config_at[kind], size)
    teacher.family.set_layers(config, shape.layers)
    with torch.random.fork_rng(devices=[]), stock.quiet():
        torch.manual_seed(seed)
        network = type(teacher.network)(config).float().eval()
    tokenizer = copy.deepcopy(teacher.tokenizer)
    student = replace(
        teacher, network=network, tokenizer=tokenizer, base_config=stock.plain(config), edits=[], history=[]
    )
    if init == "teacher":
        _check_narrower(teacher, sizes)
        _cut_into(student, teacher, shape.layers)
    return student


def build_own_student(teacher: Model, config: PreTrainedConfig, *, kind: TaskKind, seed: int = 0) -> Model:
    """A student of one of `architectures` with the teacher's tokenizer and label names, in evaluation mode.

    Args:
        teacher: Left as it is.
        config: Of the student; vocabulary, special tokens and labels are written into it.
        kind: What its head is for.
        seed: Of the weights, which are random.

    Raises:
        ConfigError: The architecture has no head for this kind of task.
    """
    network_class = stock.class_for_task(kind, config)
    tokenizer, labels = copy.deepcopy(teacher.tokenizer), teacher.network.config
    config.vocab_size = teacher.network.config.vocab_size
    config.pad_token_id, config.sep_token_id = tokenizer.pad_token_id, tokenizer.sep_token_id
    config.id2label, config.label2id = dict(labels.id2label), dict(labels.label2id)
    config.problem_type = labels.problem_type
    config.architectures = [network_class.__name__]
    with torch.random.fork_rng(devices=[]), stock.quiet():
        torch.manual_seed(seed)
        network = network_class(config).float().eval()
    return Model(network, tokenizer, stock.plain(config))


def _own_sizes(model: Model) -> dict[str, int]:
    layers = model.family.layers(model.network)
    heads, ffn = {layer.heads for layer in layers}, {layer.ffn for layer in layers}
    if len(heads) > 1 or len(ffn) > 1:
        raise ConfigError(
            "The teacher's layers have uneven heads or widths, so a student of a stock shape cannot be cut from it.",
            hint="Distil from the model before it was pruned.",
        )
    hidden = layers[0].hidden
    return {"layers": len(layers), "hidden": hidden, "heads": heads.pop(), "ffn": ffn.pop()}


def _sizes(teacher: Model, shape: Shape) -> dict[str, int]:
    own = _own_sizes(teacher)
    given = {"hidden": shape.hidden, "heads": shape.heads, "ffn": shape.ffn}
    sizes = own | {kind: size for kind, size in given.items() if size is not None}
    sizes["layers"] = len(shape.layers)
    if not teacher.family.is_narrowable and any(size is not None for size in given.values()):
        raise ConfigError(
            f"A student of another width cannot be made of a {teacher.family.name}",
            hint="Set layers alone, or use the method mobilebert.",
        )
    if teacher.family.is_narrowable and sizes["hidden"] % sizes["heads"]:
        raise ConfigError(
            f"hidden: {sizes['hidden']} is no multiple of {sizes['heads']} heads", hint="Choose one that is."
        )
    return sizes


def _check_layers(teacher: Model, layers: Sequence[int]) -> None:
    count = len(teacher.family.layers(teacher.network))
    if not layers or not all(0 <= layer < count for layer in layers):
        raise ConfigError(
            f"layers: {list(layers)}: the teacher has layers 0 to {count - 1}",
            hint="Name at least one of them.",
        )


def _check_narrower(teacher: Model, sizes: Mapping[str, int]) -> None:
    own = _own_sizes(teacher)
    head_sizes = [each["hidden"] // each["heads"] for each in (sizes, own)]
    larger = [kind for kind in ("hidden", "heads", "ffn") if sizes[kind] > own[kind]]
    if larger or head_sizes[0] > head_sizes[1]:
        what = larger[0] if larger else "head size"
        found = sizes[what] if larger else head_sizes[0]
        most = own[what] if larger else head_sizes[1]
        raise ConfigError(
            f"{what}: {found} is more than the teacher's {most}, so there is nothing to copy for the rest",
            hint="Set init: random, or choose a smaller student.",
        )


def _cut_into(student: Model, teacher: Model, layers: Sequence[int]) -> None:
    """Fill every tensor of ``student`` with the part of its teacher's that it has room for."""
    source = dict(teacher.network.state_dict())
    inside = _inside_heads(student, teacher)
    places = _places(student, teacher, layers)
    with torch.no_grad():
        for name, tensor in student.network.state_dict().items():
            values = source[_origin(name, places)]
            for axis, size in enumerate(tensor.shape):
                chosen = inside.get((name, axis))
                if chosen is None:
                    chosen = torch.arange(size, device=values.device)
                values = values.index_select(axis, chosen)
            tensor.copy_(values)


def _places(student: Model, teacher: Model, layers: Sequence[int]) -> dict[str, str]:
    """The name of each of the student's layers and of the teacher's that it starts from.

    Raises:
        ConfigError: The student's layers share their weights otherwise than those of the teacher.
    """
    found: dict[str, str] = {}
    for index, layer in enumerate(layers):
        own, other = (
            f"{model.family.path(model.network, 'layer', at)}."
            for model, at in ((student, index), (teacher, layer))
        )
        if found.setdefault(own, other) != other:
            raise ConfigError(
                f"Layers {list(layers)} share their weights otherwise in the teacher than in a student of "
                f"{len(layers)} layers.",
                hint="Choose as many of each of the teacher's groups of layers, or set init: random.",
            )
    return found


def _origin(name: str, places: Mapping[str, str]) -> str:
    """The teacher's name for a tensor of the student."""
    own = next((place for place in places if name.startswith(place)), "")
    return places.get(own, own) + name.removeprefix(own)


def _inside_heads(student: Model, teacher: Model) -> dict[tuple[str, int], Tensor]:
    """Which of the teacher's features a tensor keeps along an axis that holds heads, or other parts, side by side."""
    size, full = (model.family.head_size(model.network) for model in (student, teacher))
    layers = student.family.layers(student.network)
    heads = layers[0].heads
    theirs = teacher.family.layers(teacher.network)[0]
    kept = (torch.arange(heads)[:, None] * full + torch.arange(size)).flatten()  # (heads · size,)
    parts = {"query": kept, "key": kept, "value": kept, "joined": _beside(kept, 3, theirs.heads * full),
             "gated": _beside(torch.arange(layers[0].ffn), 2, theirs.ffn)}  # fmt: skip
    found: dict[tuple[str, int], Tensor] = {}
    for index in range(len(layers)):
        for kind in parts.keys() & student.family.layer_at.keys():
            path = student.family.path(student.network, kind, index)
            found |= {(f"{path}.weight", 0): parts[kind], (f"{path}.bias", 0): parts[kind]}
        found[(f"{student.family.path(student.network, 'attention_out', index)}.weight", 1)] = kept
    return found


def _beside(kept: Tensor, times: int, width: int) -> Tensor:
    """``kept`` of each of several parts of the teacher's that stand beside each other."""
    return torch.cat([part * width + kept for part in range(times)])

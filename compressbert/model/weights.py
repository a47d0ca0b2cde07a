"""Reading stored tensors into a network strictly, and writing each distinct tensor once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from compressbert.errors import InputError, WorkError
from compressbert.model.family import encoder_prefix

# Positions were saved as tensors by old versions of transformers; networks compute them now.
_IGNORED = (".position_ids", ".token_type_ids")
_FOREIGN = "The weights belong to another config.json or compression.json; restore the folder."


@dataclass(frozen=True)
class Loaded:
    """What reading left over.

    Attributes:
        missing: Tensors of the network that were not stored.
        unused: Stored tensors outside the encoder that the network has no place for.
    """

    missing: tuple[str, ...]
    unused: tuple[str, ...]


def load_into(network: PreTrainedModel, files: Mapping[str, Path], *, head: bool = True) -> Loaded:
    """Copy stored tensors into ``network``, as fp32 where they are floating point.

    The encoder's tensors may be stored with or without the encoder's prefix. A tied tensor may be stored
    under any of its names.

    Args:
        network: Filled in place.
        files: From `source.weight_files`.
        head: Also read tensors outside the encoder.

    Raises:
        InputError: A tensor of another shape or type, an encoder tensor the network has no place for, or one
            it
            lacks (a pooler excepted).
    """
    prefix, roots = encoder_prefix(network), _roots(network)
    wanted = network.state_dict(keep_vars=True)
    loaded: dict[int, str] = {}
    unused: list[str] = []
    for file, group in groupby(sorted(files, key=lambda name: (files[name], name)), key=files.__getitem__):
        with safe_open(file, framework="pt") as stored:
            for name in group:
                target = _name_in(network, name, roots)
                if name.endswith(_IGNORED) or (not head and not _in_encoder(target, prefix, roots)):
                    continue
                if target in wanted:
                    _copy(stored.get_tensor(name), wanted[target], name, file, loaded)
                elif _in_encoder(target, prefix, roots) and not target.startswith(f"{prefix}pooler."):
                    raise InputError(
                        f"{file} holds the tensor {name}, which this structure has no place for.",
                        hint=_FOREIGN,
                    )
                else:
                    unused.append(name)
    missing = [name for name, tensor in wanted.items() if id(tensor) not in loaded]
    _check_encoder(missing, prefix, roots, next(iter(files.values()), None))
    return Loaded(tuple(missing), tuple(unused))


def initialise(network: PreTrainedModel, names: Iterable[str]) -> None:
    """Give these tensors a new stock network's values, from torch's current seed; others stay."""
    new = set(names)
    owners = {name.rpartition(".")[0] for name in new}
    around = {owner.rpartition(".")[0] for owner in owners} - owners
    modules = dict(network.named_modules())
    for owner in (name for name in modules if name in owners):
        _start(network, owner, modules[owner], new)
    for owner in sorted(
        around, key=lambda name: -name.count(".")
    ):  # some start a module from the one around it
        _start(network, owner, modules[owner], new)


@torch.no_grad()
def _start(network: PreTrainedModel, owner: str, module: nn.Module, new: Collection[str]) -> None:
    """Start a module's tensors and those of its parts as a stock network does, as far as they are ``new``."""
    inside = f"{owner}." if owner else ""
    near = {name: tensor for name, tensor in module.state_dict().items() if name.count(".") <= 1}
    before = {name: tensor.clone() for name, tensor in near.items() if inside + name not in new}
    network._init_weights(module)
    for name, tensor in before.items():
        near[name].copy_(tensor)


def distinct(network: PreTrainedModel) -> dict[str, Tensor]:
    """Every stored tensor once, by name; a tied tensor under the name its network ties the others to."""
    state = network.state_dict(keep_vars=True)
    followers = set(network.all_tied_weights_keys or {})
    names: dict[int, str] = {}
    for name in sorted(state, key=lambda name: (name in followers, name)):
        names.setdefault(id(state[name]), name)
    return {name: state[name].detach() for name in sorted(names.values())}


def write(network: PreTrainedModel, file: Path) -> None:
    """Write the tensors of ``network`` to a safetensors file; the same tensors give the same bytes."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in distinct(network).items()}
    try:
        save_file(tensors, file, metadata={"format": "pt"})
    except (SafetensorError, OSError) as error:
        raise WorkError(
            f"The weights could not be written to {file}: {error}", hint="Free some disk space and run again."
        ) from error


def _roots(network: PreTrainedModel) -> tuple[str, ...]:
    """What names inside the encoder start with, optional parts included that this network may not have."""
    parts = [name for name, _ in network.base_model.named_children()]
    return tuple(f"{name}." for name in dict.fromkeys([*parts, "pooler", "embeddings_project"]))


def _name_in(network: PreTrainedModel, stored: str, roots: tuple[str, ...]) -> str:
    """The name in ``network`` of a stored tensor, whatever prefix and style of names it was stored with."""
    name = stored.replace(".gamma", ".weight").replace(".beta", ".bias")
    bare = name.removeprefix(f"{network.base_model_prefix}.")
    return encoder_prefix(network) + bare if _in_encoder(bare, "", roots) else name


def _in_encoder(name: str, prefix: str, roots: tuple[str, ...]) -> bool:
    return name.startswith(tuple(prefix + root for root in roots))


def _copy(source: Tensor, target: Tensor, name: str, file: Path, loaded: dict[int, str]) -> None:
    if target.dtype == torch.int8 and source.shape == target.shape[1:]:
        source = source[None]  # older folders hold it without the first axis
    if source.shape != target.shape:
        raise InputError(
            f"{file}: {name} has the shape {list(source.shape)}, expected {list(target.shape)}.",
            hint=_FOREIGN,
        )
    if source.is_floating_point() != target.is_floating_point():
        raise InputError(
            f"{file}: {name} is stored as {source.dtype}, expected {target.dtype}.",
            hint=_FOREIGN,
        )
    with torch.no_grad():
        if (first := loaded.get(id(target))) is not None and not torch.equal(source.to(target.dtype), target):
            raise InputError(
                f"{file}: {name} and {first} differ, but config.json says they are one tensor.",
                hint="Set tie_word_embeddings to false in config.json if they are meant to differ.",
            )
        target.copy_(source)
    loaded.setdefault(id(target), name)


def _check_encoder(missing: list[str], prefix: str, roots: tuple[str, ...], file: Path | None) -> None:
    lost = [name for name in missing if _in_encoder(name, prefix, roots)]
    lost = [name for name in lost if not name.startswith(f"{prefix}pooler.")]
    if lost:
        raise InputError(
            f"{file} lacks {len(lost)} tensors of the encoder, the first is {lost[0]}.",
            hint=_FOREIGN,
        )

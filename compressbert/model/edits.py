"""Changes of structure: the only way a model loses parts or becomes int8.

Each function acts in place on a `Model`, keeps its config in step and appends an `Edit`, so that replaying
``model.edits`` on a stock network gives the same structure. Indices count what is there at that moment: after
``keep_layers(model, [0, 3])`` the former layer 3 is layer 1. An edit that would change nothing is not
recorded. Parameters that are narrowed become new tensors: build optimizers afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from torch import nn

from compressbert.errors import ConfigError, InputError
from compressbert.model import surgery
from compressbert.model.handle import Model
from compressbert.model.parts import NoPositions
from compressbert.model.survivors import (
    beside,
    checked,
    checked_per_layer,
    distinct_layers,
    once_per_weights,
    owners_of,
)


@dataclass(frozen=True)
class Edit:
    """One recorded change of structure.

    Attributes:
        op: Name of the function in this module.
        arguments: Its arguments as plain JSON values; keys of mappings are strings.
    """

    op: str
    arguments: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As written to `compression.json`."""
        return {"op": self.op, "arguments": self.arguments}


def keep_layers(model: Model, layers: Sequence[int]) -> None:
    """Keep these layers and remove the others.

    Args:
        model: Changed in place.
        layers: Layers that survive, in ascending order.

    Raises:
        ConfigError: None left, one that does not exist, one named twice, or not in ascending order; or layers that
            share their weights in a way that these alone cannot.
    """
    count = len(model.family.blocks(model.network))
    kept = checked(layers, count, "layer")
    if list(layers) != kept:
        raise ConfigError(
            f"Layers to keep must be in ascending order, found {list(layers)}.", hint=f"Write {kept} instead."
        )
    if len(kept) == count:
        return
    model.family.keep_blocks(model.network, kept)
    for index, layer in enumerate(model.family.layers(model.network)):
        if hasattr(layer.attention, "layer_idx"):
            layer.attention.layer_idx = index  # type: ignore[assignment]
    _record(model, "keep_layers", layers=kept)


def keep_heads(model: Model, heads: Mapping[int, Sequence[int]]) -> None:
    """Keep these attention heads; layers that are not mentioned stay as they are.

    Equal to zeroing the columns of the attention's output projection that read a removed head. The head size
    and the softmax scaling stay those of the full model. Layers that share their weights lose the same heads.

    Args:
        model: Changed in place.
        heads: Layer to the heads that survive in it, at least one.

    Raises:
        ConfigError: A layer or head that does not exist, a head named twice, or a layer without any head; or
            different heads in layers that share their weights; or a family whose heads cannot be cut.
    """
    layers = model.family.layers(model.network)
    size = model.family.head_size(model.network)
    kept = checked_per_layer(heads, layers, "head", [layer.heads for layer in layers])
    if kept:
        model.family.check_heads()
    for index, survivors in once_per_weights(kept, owners_of(model), "heads").items():
        layer = layers[index]
        units = [head * size + offset for head in survivors for offset in range(size)]
        if layer.joined is not None:
            surgery.keep_outputs(layer.joined, beside(units, layer.heads * size, times=3))
        else:
            for projection in (layer.query, layer.key, layer.value):
                surgery.keep_outputs(projection, units)
        surgery.keep_inputs(layer.attention_out, units)
        model.family.set_head_count(layer, len(survivors))
    if kept:
        _record(model, "keep_heads", heads=_json_keys(kept))


def keep_neurons(model: Model, neurons: Mapping[int, Sequence[int]]) -> None:
    """Keep these FFN neurons; layers that are not mentioned stay as they are.

    Equal to zeroing the columns of the FFN's output projection that read a removed neuron. Layers that share their
    weights lose the same neurons.

    Args:
        model: Changed in place.
        neurons: Layer to the neurons that survive in it, at least one.

    Raises:
        ConfigError: A layer or neuron that does not exist, a neuron named twice, or a layer without any; different
            neurons in layers that share their weights; or a family whose widths cannot be cut.
    """
    _refuse_bottlenecks(model)
    layers = model.family.layers(model.network)
    kept = checked_per_layer(neurons, layers, "neuron", [layer.ffn for layer in layers])
    for index, survivors in once_per_weights(kept, owners_of(model), "neurons").items():
        layer = layers[index]
        if layer.gated is not None:
            surgery.keep_outputs(layer.gated, beside(survivors, layer.ffn, times=2))
        else:
            surgery.keep_outputs(layer.ffn_in, survivors)
        surgery.keep_inputs(layer.ffn_out, survivors)
    if kept:
        _record(model, "keep_neurons", neurons=_json_keys(kept))


def keep_hidden(model: Model, dimensions: Sequence[int]) -> None:
    """Keep these dimensions of the residual stream, in every module that reads or writes it.

    Not equal to zeroing the other dimensions: a LayerNorm over fewer dimensions takes its mean and variance
    over those that are left. Pooler, task head and tied output projection are narrowed with it.

    Args:
        model: Changed in place.
        dimensions: Dimensions that survive, at least one.

    Raises:
        ConfigError: None left, one that does not exist, one named twice, or a head of unknown shape; or a family
            whose widths cannot be cut.
    """
    _refuse_bottlenecks(model)
    network, family = model.network, model.family
    width = _hidden(model)
    kept = checked(dimensions, width, "hidden dimension")
    if len(kept) == width:
        return
    narrow_head = _head_narrowing(model)
    embeddings = family.embeddings(network)
    if embeddings.projection is not None:
        surgery.keep_outputs(embeddings.projection, kept)
    else:
        for table in (embeddings.word, embeddings.position, embeddings.token_type):
            if table is not None and not isinstance(table, NoPositions):
                surgery.keep_columns(table, kept)
        surgery.keep_features(embeddings.norm, kept)
    for layer in distinct_layers(model):
        asking = (layer.query, layer.key, layer.value) if layer.joined is None else (layer.joined,)
        for reader in (*asking, layer.gated or layer.ffn_in):
            surgery.keep_inputs(reader, kept)
        for writer in (layer.attention_out, layer.ffn_out):
            surgery.keep_outputs(writer, kept)
        for norm in (layer.attention_norm, layer.ffn_norm):
            if not isinstance(norm, nn.Identity):
                surgery.keep_features(norm, kept)
    for narrow in narrow_head:
        narrow(kept)
    _record(model, "keep_hidden", dimensions=kept)
    network.tie_weights()


def quantize_int8(model: Model, *, modules: Sequence[str] | None = None, portable: bool = True) -> None:
    """Turn weights into int8, per output channel and per embedding row; activations are quantized at run
    time.

    An output projection tied to an embedding table that becomes int8 keeps its own fp32 copy.

    Args:
        model: Changed in place.
        modules: Qualified names of Linear and Embedding modules. None: every Linear of the encoder and its
            pooler,
            and the word and position tables. Token types (a row or two), LayerNorms and the task head stay
            fp32.
        portable: Weights whose products are exact on every CPU; those without VNNI saturate others.

    Raises:
        ConfigError: A module that does not exist, is named twice, or cannot be quantized.
    """
    names = default_int8_modules(model) if modules is None else list(modules)
    _quantize(model, names, empty=False, portable=portable)


def default_int8_modules(model: Model) -> list[str]:
    """Names of what `quantize_int8` turns into int8 unless told: encoder and pooler, word and position tables."""
    network, family = model.network, model.family
    encoder = family.encoder_prefix(network)
    tables = {family.path(network, kind) for kind in ("word", "position") if kind in family.embeddings_at}
    return [
        name
        for name, module in network.named_modules()
        if (name in tables and isinstance(module, nn.Embedding))
        or (isinstance(module, nn.Linear) and name.startswith(encoder))
    ]


def replay(model: Model, edits: Iterable[Edit]) -> None:
    """Give ``model``, a stock one, the structure that ``edits`` describe. Weights are loaded afterwards.

    Raises:
        InputError: An edit of unknown name, or one that does not fit the model.
    """
    for edit in edits:
        function = _OPERATIONS.get(edit.op)
        if function is None:
            raise InputError(
                f"compression.json lists an edit {edit.op!r}; known are {', '.join(_OPERATIONS)}.",
                hint="The folder was written by a newer compressbert: upgrade it.",
            )
        try:
            function(model, edit.arguments)
        except (ConfigError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"compression.json lists an edit {edit.op!r} that does not fit the model: {error}",
                hint="The file was changed by hand or belongs to another model; write the folder again.",
            ) from error


_OPERATIONS: dict[str, Callable[[Model, dict[str, Any]], None]] = {
    "keep_layers": lambda model, given: keep_layers(model, given["layers"]),
    "keep_heads": lambda model, given: keep_heads(model, _int_keys(given["heads"])),
    "keep_neurons": lambda model, given: keep_neurons(model, _int_keys(given["neurons"])),
    "keep_hidden": lambda model, given: keep_hidden(model, given["dimensions"]),
    "quantize_int8": lambda model, given: _quantize(model, given["modules"], empty=True),
}


def _quantize(model: Model, names: list[str], *, empty: bool, portable: bool = True) -> None:
    network = model.network
    known = dict(network.named_modules())
    for name in names:
        if name not in known or names.count(name) > 1:
            problem = "named twice" if name in known else "not a module of this model"
            raise ConfigError(
                f"{name} cannot be quantized: it is {problem}.", hint="Check the list of modules."
            )
    twins = {name: surgery.to_int8(known[name], name, empty=empty, portable=portable) for name in names}
    table = network.get_input_embeddings()
    output = network.get_output_embeddings()
    if output is not None and any(known[name] in (table, output) for name in names):
        _untie(network, output)
    for name, twin in twins.items():
        surgery.replace(network, name, twin)
    if names:
        _record(model, "quantize_int8", modules=names)


def _untie(network: Any, output: nn.Module) -> None:
    """Give the output projection its own tensors; the config says so too, and loaders then keep both."""
    for tensor in ("weight", "bias"):
        parameter = getattr(output, tensor)
        if parameter is not None:
            setattr(output, tensor, nn.Parameter(parameter.detach().clone(), parameter.requires_grad))
    network.config.tie_word_embeddings = False
    network.all_tied_weights_keys = {}


def _refuse_bottlenecks(model: Model) -> None:
    if not model.family.is_narrowable:
        raise ConfigError(
            f"The layers of {model.family.name} are bottlenecks already: its neurons and widths cannot be cut.",
            hint="Remove layers or heads, or train a narrower one.",
        )


def _head_narrowing(model: Model) -> list[Callable[[list[int]], None]]:
    """What must be narrowed after the encoder when the residual stream is; nothing is changed yet."""
    family, network = model.family, model.network
    prefix = family.encoder_prefix(network)
    spaces = {"hidden"}
    if family.embeddings(network).projection is None:
        spaces.add("embedding")
    work: list[Callable[[list[int]], None]] = []
    for name, module in family.head_modules(network).items():
        if (flow := family.head_at.get(name.removeprefix(prefix))) is None:
            raise ConfigError(
                f"The hidden width cannot be reduced: {name} belongs to a head whose shape is not known.",
                hint="Load the model with a classification or masked-language-model head.",
            )
        if isinstance(module, nn.LayerNorm):
            work += [partial(surgery.keep_features, module)] if flow[0] in spaces else []
            continue
        work += [partial(surgery.keep_inputs, module)] if flow[0] in spaces else []
        work += [partial(surgery.keep_outputs, module)] if flow[1] in spaces else []
    return work


def _hidden(model: Model) -> int:
    return model.family.layers(model.network)[0].hidden


def _record(model: Model, op: str, **arguments: Any) -> None:
    model.edits.append(Edit(op, arguments))
    _settle_config(model)


def _settle_config(model: Model) -> None:
    """Write the sizes into the stock config where it can express them; else keep those of the base model.

    Heads and hidden width go together: a stock network derives the head size as hidden / heads.
    """
    family, config, base = model.family, model.network.config, model.base_config
    layers = family.layers(model.network)
    at = family.config_at
    family.set_layers(config, range(len(layers)))
    ffn = {layer.ffn for layer in layers}
    setattr(config, at["ffn"], ffn.pop() if len(ffn) == 1 else base[at["ffn"]])
    sizes = {"hidden": base[at["hidden"]], "heads": base[at["heads"]]}
    heads = {layer.heads for layer in layers}
    hidden = _hidden(model)
    if len(heads) == 1 and min(heads) * family.head_size(model.network) == hidden:
        sizes = {"hidden": hidden, "heads": min(heads)}
    if "embedding" in at:
        embedding = cast(int, family.embeddings(model.network).word.embedding_dim)
        projected = family.embeddings(model.network).projection is not None
        # Most stock networks project only between different widths.
        if not family.always_projects and projected == (embedding == sizes["hidden"]):
            sizes = {"hidden": base[at["hidden"]], "heads": base[at["heads"]]}
            embedding = base[at["embedding"]]
        sizes["embedding"] = embedding
    for kind, size in sizes.items():
        setattr(config, at[kind], size)


def _json_keys(kept: Mapping[int, list[int]]) -> dict[str, list[int]]:
    return {str(layer): survivors for layer, survivors in kept.items()}


def _int_keys(given: Mapping[str, list[int]]) -> dict[int, list[int]]:
    return {int(layer): survivors for layer, survivors in given.items()}

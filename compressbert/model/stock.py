"""Networks by name: which class, which config, and building one without random weights.

Stock ones of transformers, and those of `architectures`, which are registered with transformers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import transformers
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.initialization import no_init_weights
from transformers.utils import logging

from compressbert.config.schema import TaskKind
from compressbert.errors import ConfigError, InputError
from compressbert.model import architectures
from compressbert.model.families import family_of

_CLASSES: dict[TaskKind, Any] = {
    "token-classification": AutoModelForTokenClassification,
    "question-answering": AutoModelForQuestionAnswering,
    "sentence-embedding": AutoModel,
    "masked-lm": AutoModelForMaskedLM,
}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from writing bars and notices to stderr; what matters is raised or noted by us."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def plain(config: PreTrainedConfig) -> dict[str, Any]:
    """A config as JSON values, without the place it was loaded from."""
    values = cast(dict[str, Any], json.loads(config.to_json_string(use_diff=False)))
    for key in ("_name_or_path", "transformers_version"):
        values.pop(key, None)
    return values


def config_from(values: dict[str, Any]) -> PreTrainedConfig:
    """The stock config of these values.

    Raises:
        InputError: The model type is not supported, the model is a decoder, or a value is impossible.
    """
    model_type = values.get("model_type")
    if not architectures.is_own(str(model_type)):
        family_of(str(model_type))
    for flag in ("is_decoder", "add_cross_attention"):
        if values.get(flag):
            raise InputError(
                f"config.json says {flag}: true; only encoders are supported.",
                hint="Choose an encoder, such as a model for classification or masked language modelling.",
            )
    try:
        with quiet():
            return cast(PreTrainedConfig, CONFIG_MAPPING[model_type].from_dict(values))
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(
            f"config.json holds a value that transformers refuses: {error}",
            hint="Restore config.json from where the model came from.",
        ) from error


def class_named(name: str | None, config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The class called ``name``, or the bare encoder for None.

    Raises:
        InputError: There is no such class for this config.
    """
    if name is None:
        return cast(type[PreTrainedModel], AutoModel._model_mapping[type(config)])
    found = getattr(transformers, name, None)
    if architectures.is_own(config.model_type):
        own = architectures.networks_of(config.model_type).values()
        found = next((network for network in own if network.__name__ == name), None)
    if isinstance(found, type) and issubclass(found, PreTrainedModel) and _is_for(found, config):
        return found
    raise InputError(
        f"config.json names the architecture {name}, which is no {config.model_type} class of transformers.",
        hint="Models that bring code for their own network are not supported.",
    )


def _is_for(network_class: type[PreTrainedModel], config: PreTrainedConfig) -> bool:
    return cast(Any, network_class).config_class is type(config)


def class_for_task(kind: TaskKind, config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The class with a head for this kind of task; the bare encoder where pooling is the head.

    Raises:
        ConfigError: The architecture has no such head.
    """
    auto = _CLASSES.get(kind, AutoModelForSequenceClassification)
    found = auto._model_mapping.get(type(config), None)
    if found is None:
        raise ConfigError(
            f"Models of type {config.model_type} have no head for {kind}.",
            hint="Start from an encoder of another architecture.",
        )
    return cast(type[PreTrainedModel], found)


def sibling_class(network: PreTrainedModel, config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The stock class of another architecture with the same head as ``network``.

    Raises:
        InputError: The head belongs to one architecture alone.
    """
    for auto in (AutoModel, AutoModelForSequenceClassification, *_CLASSES.values()):
        if auto._model_mapping.get(type(network.config), None) is type(network):
            return cast(type[PreTrainedModel], auto._model_mapping[type(config)])
    raise InputError(
        f"{type(network).__name__} has a head that no {config.model_type} has.",
        hint="Give a model with the head of a task, of masked language modelling, or none.",
    )


def build(network_class: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    """A network whose weights are unset memory: every one must be loaded or initialised afterwards.

    Uses no random numbers. Attention is transformers' default for the class (sdpa).

    Raises:
        InputError: The sizes in the config do not fit together.
    """
    try:
        with quiet(), no_init_weights():
            network = network_class(config).float().eval()
            network.tie_weights()  # part of the initialisation that was left out
            return network
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"No {network_class.__name__} can be built from config.json: {error}",
            hint="Restore config.json from where the model came from.",
        ) from error


def stored_config(network: PreTrainedModel) -> dict[str, Any]:
    """Values of `config.json` for a network, as transformers writes it."""
    values = cast(dict[str, Any], json.loads(network.config.to_json_string(use_diff=True)))
    values.pop("_name_or_path", None)
    return values | {"architectures": [type(network).__name__], "dtype": "float32"}

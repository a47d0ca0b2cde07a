"""Architectures that transformers does not have, for students that are no transformers of a known family.

Each file defines configs and networks and needs torch and transformers only, because saved folders carry a copy of
it. Its ``NETWORKS`` says which auto class opens which network. They are registered with transformers' auto classes
here, so a network of ours is built, loaded and saved like a stock one.
"""

from __future__ import annotations

import inspect
from types import ModuleType

import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from compressbert.model.architectures import text_vectors, waldorf

_MODULES: tuple[ModuleType, ...] = (text_vectors, waldorf)
_CONFIGS: dict[str, tuple[type[PreTrainedConfig], ModuleType]] = {
    config.model_type: (config, module) for module in _MODULES for config in module.NETWORKS
}


def is_own(model_type: str) -> bool:
    """Whether this value of ``config.model_type`` is one of ours."""
    return model_type in _CONFIGS


def networks_of(model_type: str) -> dict[str, type[PreTrainedModel]]:
    """Auto class to the network of ours that it opens: ``AutoModel`` and the classes with a head."""
    config, module = _CONFIGS[model_type]
    found: dict[str, type[PreTrainedModel]] = module.NETWORKS[config]
    return found


def config_class(model_type: str) -> type[PreTrainedConfig]:
    """The config of one of our model types."""
    return _CONFIGS[model_type][0]


def source_of(model_type: str) -> str:
    """The self-contained code of one of our model types."""
    return inspect.getsource(_CONFIGS[model_type][1])


def _register() -> None:
    for model_type, (config, _) in _CONFIGS.items():
        transformers.AutoConfig.register(model_type, config, exist_ok=True)
        for auto, network in networks_of(model_type).items():
            getattr(transformers, auto).register(config, network, exist_ok=True)


_register()

"""The handle on a model in memory: a network, its tokenizer, and how its structure came about."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import ModelOutput

from compressbert.errors import ConfigError
from compressbert.model import architectures
from compressbert.model.families import family_of
from compressbert.model.family import Family
from compressbert.model.pooling import Pooling
from compressbert.nn.int8 import Int8Embedding, Int8Linear

if TYPE_CHECKING:
    from compressbert.model.edits import Edit


@dataclass
class Model:
    """An encoder with its head and tokenizer.

    Attributes:
        network: A stock class of transformers, its modules narrowed or swapped by edits, or one of `architectures`.
        tokenizer: Its tokenizer.
        base_config: The stock config before any edit, as plain JSON values.
        edits: What changed the structure, in order; replayed on a stock network they give this one.
        history: One entry per method applied: ``{"method", "settings", "parent_sha256"}``.
        pooling: How a sentence encoder makes one vector of its tokens; None for everything else.
    """

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    base_config: dict[str, Any]
    edits: list[Edit] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    pooling: Pooling | None = None

    @property
    def is_own(self) -> bool:
        """Whether the network is one of `architectures`: no transformer of a known family, so without `family`."""
        return architectures.is_own(self.network.config.model_type)

    @property
    def family(self) -> Family:
        """The names of this architecture's parts.

        Raises:
            InputError: The network is of no known family.
        """
        return family_of(self.network)

    @property
    def width(self) -> int:
        """Width of the states that leave the last layer, or of an own network's vectors."""
        if self.is_own:
            return int(self.network.config.hidden_size)
        return self.family.layers(self.network)[-1].hidden

    @property
    def activation(self) -> str:
        """The FFN's activation, by the name transformers has for it; "" where it is not a plain name."""
        config = self.network.config
        names = ("hidden_act", "activation", "hidden_activation")
        found = next((value for name in names if (value := getattr(config, name, None))), None)
        return found if isinstance(found, str) else ""

    @property
    def is_int8(self) -> bool:
        """Whether any module holds int8 weights."""
        return any(isinstance(module, Int8Linear | Int8Embedding) for module in self.network.modules())

    def __call__(self, **inputs: Any) -> ModelOutput:
        """Run the network on ``input_ids``, ``attention_mask`` (and ``token_type_ids``), each (B, S).

        ``logits`` is the main output whatever the head: (B, C) per text, (B, S, C) per token, (B, S, 2) starts
        and ends of answers, (B, H) the vectors of a sentence encoder. A bare encoder has none.
        """
        output = self.network(**inputs)
        if "start_logits" in output:
            output["logits"] = torch.stack((output.start_logits, output.end_logits), dim=-1).float()
        elif self.pooling is not None:
            vectors = self.pooling(output.last_hidden_state, inputs["attention_mask"])
            output["logits"] = output["sentence_embedding"] = vectors
        return output

    def copy(self) -> Model:
        """A deep copy that shares nothing with this model; tied tensors stay tied inside the copy."""
        return Model(
            network=copy.deepcopy(self.network),
            tokenizer=copy.deepcopy(self.tokenizer),
            base_config=copy.deepcopy(self.base_config),
            edits=copy.deepcopy(self.edits),
            history=copy.deepcopy(self.history),
            pooling=self.pooling,
        )

    def twin(self) -> Model:
        """A model of its own modules around the same tensors: for replacing modules, not for changing weights."""
        tensors = [*self.network.parameters(), *self.network.buffers()]
        return Model(
            network=copy.deepcopy(self.network, {id(tensor): tensor for tensor in tensors}),
            tokenizer=self.tokenizer,
            base_config=self.base_config,
            edits=list(self.edits),
            history=list(self.history),
            pooling=self.pooling,
        )

    def eval(self) -> Model:
        """Switch dropout off; returns this model."""
        self.network.eval()
        return self

    def train(self) -> Model:
        """Switch dropout on; returns this model.

        Raises:
            ConfigError: The model holds int8 modules, which do not train.
        """
        if self.is_int8:
            raise ConfigError(
                "This model holds int8 weights, and int8 weights do not train.",
                hint="Train or prune the fp32 model first and quantize as the last step.",
            )
        self.network.train()
        return self

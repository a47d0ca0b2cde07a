"""WaLDORf: a transformer that runs on a shorter sequence, with convolutions that shorten it and lengthen it again.

`Waldorf…`: word pieces are embedded, a strided convolution makes one position of every `stride` of them, BERT's layers
run on these positions, and a transposed convolution gives every word piece a state again. This file needs torch and
transformers only: a copy of it lies in every folder that holds such a model, so that plain transformers opens it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import (
    BaseModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.models.bert.modeling_bert import BertLayer


class WaldorfConfig(BertConfig):  # type: ignore[misc]
    """BERT's sizes, of the layers on the short sequence, and those around it.

    Attributes:
        embedding_size: Width of the word table.
        stride: Word pieces that become one position.
        kernel: Word pieces that a position reads, and that it writes; at least `stride`.
        skip: Whether a word piece's state also reads its own embedding past the short sequence.
    """

    model_type = "compressbert-waldorf"

    embedding_size: int = 128
    stride: int = 2
    kernel: int = 4
    skip: bool = True


def short_mask(mask: Tensor, stride: int) -> Tensor:
    """1 for the positions that stand for any real word piece: (B, S) to (B, ⌈S / stride⌉)."""
    missing = -mask.shape[1] % stride
    padded = nn.functional.pad(mask, (0, missing))
    return padded.view(mask.shape[0], -1, stride).amax(-1)


class Shorten(nn.Module):
    """A strided convolution over real word pieces; beyond either end, and at padding, it reads zeros."""

    def __init__(self, width: int, out: int, *, kernel: int, stride: int) -> None:
        super().__init__()
        self.before, self.after = (kernel - stride) // 2, kernel - 1 - (kernel - stride) // 2
        self.conv = nn.Conv1d(width, out, kernel, stride=stride)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """(B, S, width) and (B, S) to (B, ⌈S / stride⌉, out)."""
        real = states * mask.unsqueeze(-1).to(states.dtype)
        padded = nn.functional.pad(real.transpose(1, 2), (self.before, self.after))
        short: Tensor = self.conv(padded)
        return short.transpose(1, 2)


class Lengthen(nn.Module):
    """The transposed convolution: a position writes to the word pieces that it was made of."""

    def __init__(self, width: int, out: int, *, kernel: int, stride: int) -> None:
        super().__init__()
        self.before = (kernel - stride) // 2
        self.conv = nn.ConvTranspose1d(width, out, kernel, stride=stride)

    def forward(self, states: Tensor, mask: Tensor, length: int) -> Tensor:
        """(B, S′, width) and (B, S′) to (B, length, out)."""
        real = states * mask.unsqueeze(-1).to(states.dtype)
        full: Tensor = self.conv(real.transpose(1, 2))
        return full[:, :, self.before : self.before + length].transpose(1, 2)


class _Embeddings(nn.Module):
    def __init__(self, config: WaldorfConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, config.embedding_size)
        self.word_projection = nn.Linear(config.embedding_size, width, bias=False)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        """(B, S) to (B, S, H)."""
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        summed = self.word_projection(self.word_embeddings(input_ids)) + self.token_type_embeddings(
            token_type_ids
        )
        states: Tensor = self.dropout(self.LayerNorm(summed + self.position_embeddings(positions)))
        return states


class _WaldorfPreTrained(PreTrainedModel):  # type: ignore[misc]
    config_class = WaldorfConfig
    base_model_prefix = "encoder"
    _supports_sdpa = True
    _supports_attention_backend = True


class WaldorfModel(_WaldorfPreTrained):
    """The encoder: word pieces to states of word pieces, by way of a short sequence."""

    def __init__(self, config: WaldorfConfig) -> None:
        super().__init__(config)
        sizes = {"kernel": config.kernel, "stride": config.stride}
        self.embeddings = _Embeddings(config)
        self.shorten = Shorten(config.hidden_size, config.hidden_size, **sizes)
        self.layers = nn.ModuleList(
            BertLayer(config, layer_idx=index) for index in range(config.num_hidden_layers)
        )
        self.lengthen = Lengthen(config.hidden_size, config.hidden_size, **sizes)
        self.skip = nn.Linear(config.hidden_size, config.hidden_size, bias=False) if config.skip else None
        self.post_init()

    @property
    def macs_per_token(self) -> int:
        """Multiply-accumulates for each word piece of 128, embeddings left out."""
        config = self.config
        width, stride = config.hidden_size, config.stride
        layer = 4 * width * width + 2 * width * config.intermediate_size + 2 * (128 // stride) * width
        around = 2 * config.kernel * width * width // stride + (width * width if config.skip else 0)
        return int(config.num_hidden_layers * layer // stride + around)

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embeddings.word_embeddings = value  # type: ignore[assignment]

    def short(
        self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings (B, S, H), the short mask (B, S′), and what the last layer makes of the sequence (B, S′, H)."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        embedded = self.embeddings(input_ids, types)
        states, reduced = self.shorten(embedded, mask), short_mask(mask, self.config.stride)
        additive = create_bidirectional_mask(config=self.config, inputs_embeds=states, attention_mask=reduced)
        for layer in self.layers:
            states = layer(states, additive)
        return embedded, reduced, states

    def full(self, embedded: Tensor, reduced: Tensor, states: Tensor) -> Tensor:
        """States of the word pieces from those of the short sequence: (B, S, H)."""
        restored: Tensor = self.lengthen(states, reduced, embedded.shape[1])
        return restored if self.skip is None else restored + self.skip(embedded)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **_: Any,
    ) -> BaseModelOutput:
        """(B, S) to (B, S, H)."""
        return BaseModelOutput(
            last_hidden_state=self.full(*self.short(input_ids, attention_mask, token_type_ids))
        )


class _WithHead(_WaldorfPreTrained):
    def __init__(self, config: WaldorfConfig) -> None:
        super().__init__(config)
        self.encoder = WaldorfModel(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.encoder.set_input_embeddings(value)


class WaldorfForTokenClassification(_WithHead):
    """A linear map of every word piece's state."""

    def forward(self, input_ids: Tensor, **inputs: Any) -> TokenClassifierOutput:
        """(B, S) to logits (B, S, labels)."""
        output = self.encoder(input_ids, **inputs)
        logits = self.classifier(self.dropout(output.last_hidden_state))
        return TokenClassifierOutput(logits=logits)


class WaldorfForQuestionAnswering(_WithHead):
    """Scores of a start and of an end for every word piece."""

    def forward(self, input_ids: Tensor, **inputs: Any) -> QuestionAnsweringModelOutput:
        """(B, S) to start_logits and end_logits (B, S)."""
        output = self.encoder(input_ids, **inputs)
        scores: Tensor = self.classifier(output.last_hidden_state)
        starts, ends = scores.unbind(-1)
        return QuestionAnsweringModelOutput(start_logits=starts, end_logits=ends)


class WaldorfForSequenceClassification(_WithHead):
    """A classifier of the first short position; nothing is lengthened."""

    def __init__(self, config: WaldorfConfig) -> None:
        super().__init__(config)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **_: Any,
    ) -> SequenceClassifierOutput:
        """(B, S) to logits (B, labels)."""
        states = self.encoder.short(input_ids, attention_mask, token_type_ids)[2]
        pooled = torch.tanh(self.dense(states[:, 0]))
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(pooled)))


NETWORKS: dict[type[PreTrainedConfig], dict[str, type[PreTrainedModel]]] = {
    WaldorfConfig: {
        "AutoModel": WaldorfModel,
        "AutoModelForQuestionAnswering": WaldorfForQuestionAnswering,
        "AutoModelForTokenClassification": WaldorfForTokenClassification,
        "AutoModelForSequenceClassification": WaldorfForSequenceClassification,
    },
}

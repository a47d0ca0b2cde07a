"""Encoders that make one vector of a text without attention, and the classifier on top of them.

`StaticEmbedding…`: the mean of a table's rows, one for each word piece. `BiLSTM…`: the last states of an LSTM that
reads the word pieces in both directions. This file needs torch and transformers only: a copy of it lies in every
folder that holds such a model, so that plain transformers opens it.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling, SequenceClassifierOutput


class TextVectorConfig(PreTrainedConfig):  # type: ignore[misc]
    """What both kinds share.

    Attributes:
        vocab_size: Rows of the table.
        embedding_size: Width of the table.
        hidden_size: Width of a text's vector.
        head_size: Width between vector and labels; 0 for one linear map.
        dropout: Before the last linear map, in training.
        pairs: Whether an input holds two texts, the second after the first separator.
        sep_token_id: The separator.
        pad_token_id: Fills up short texts; the attention mask says where.
    """

    vocab_size: int = 30522
    embedding_size: int = 256
    hidden_size: int = 256
    head_size: int = 0
    dropout: float = 0.1
    pairs: bool = False
    sep_token_id: int | None = None
    pad_token_id: int | None = 0


class StaticEmbeddingConfig(TextVectorConfig):
    """Of a table whose rows are averaged; ``hidden_size`` is ``embedding_size``."""

    model_type = "compressbert-static-embedding"


class BiLSTMConfig(TextVectorConfig):
    """Of an LSTM over a table's rows; ``hidden_size`` is that of both directions together.

    Attributes:
        frozen_size: Width of a second table beside the first, which training leaves as it is; 0 for none.
    """

    model_type = "compressbert-bilstm"

    frozen_size: int = 0


def text_masks(input_ids: Tensor, attention_mask: Tensor, config: TextVectorConfig) -> tuple[Tensor, ...]:
    """The positions of each text, (B, S) of 0 and 1: of one, or of two that are parted by the first separator."""
    if not config.pairs:
        return (attention_mask,)
    is_separator = input_ids.eq(config.sep_token_id).to(attention_mask.dtype) * attention_mask  # type: ignore[arg-type]
    before = is_separator.cumsum(1) - is_separator  # separators in front of each position
    first = attention_mask * (before == 0)
    return first, attention_mask - first


class _Embeddings(nn.Module):
    """The table, and beside it perhaps one that is not trained."""

    def __init__(self, config: TextVectorConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.embedding_size)
        frozen = getattr(config, "frozen_size", 0)
        self.frozen_embeddings = nn.Embedding(config.vocab_size, frozen) if frozen else None

    def forward(self, input_ids: Tensor) -> Tensor:
        """(B, S) to (B, S, width of all tables)."""
        rows: Tensor = self.word_embeddings(input_ids)
        if self.frozen_embeddings is None:
            return rows
        return torch.cat((rows, self.frozen_embeddings(input_ids)), dim=-1)


class _TextVectorModel(PreTrainedModel):  # type: ignore[misc]
    """What both encoders share."""

    base_model_prefix = "encoder"
    embeddings: _Embeddings

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embeddings.word_embeddings = value  # type: ignore[assignment]

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding | nn.LSTM):
            module.reset_parameters()


class StaticEmbeddingModel(_TextVectorModel):
    """The mean of the rows of a text's word pieces."""

    config_class = StaticEmbeddingConfig

    def __init__(self, config: StaticEmbeddingConfig) -> None:
        super().__init__(config)
        self.embeddings = _Embeddings(config)
        self.post_init()

    @property
    def macs_per_token(self) -> int:
        """Multiply-accumulates for each word piece."""
        return int(self.config.embedding_size)

    def vectors(self, input_ids: Tensor, masks: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The vector of the text at each mask's positions: (B, H) each; zeros for an empty one."""
        rows = self.embeddings(input_ids)
        return tuple(_mean(rows, mask) for mask in masks)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any
    ) -> BaseModelOutputWithPooling:
        """(B, S) to the rows of the table (B, S, H) and their mean (B, H)."""
        rows = self.embeddings(input_ids)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return BaseModelOutputWithPooling(last_hidden_state=rows, pooler_output=_mean(rows, mask))


def _mean(rows: Tensor, mask: Tensor) -> Tensor:
    weights = mask.to(rows.dtype).unsqueeze(1)  # (B, 1, S)
    return (weights @ rows).squeeze(1) / weights.sum(-1).clamp(min=1.0)


class BiLSTMModel(_TextVectorModel):
    """The last states of an LSTM that reads a text in both directions."""

    config_class = BiLSTMConfig

    def __init__(self, config: BiLSTMConfig) -> None:
        super().__init__(config)
        self.embeddings = _Embeddings(config)
        width = config.embedding_size + config.frozen_size
        self.lstm = nn.LSTM(width, config.hidden_size // 2, batch_first=True, bidirectional=True)
        self.post_init()

    @property
    def macs_per_token(self) -> int:
        """Multiply-accumulates for each word piece: four gates in both directions."""
        return 8 * self.lstm.hidden_size * (self.lstm.input_size + self.lstm.hidden_size)

    def vectors(self, input_ids: Tensor, masks: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The vector of the text at each mask's positions, which lie side by side: (B, H) each.

        Padding on either side is never read. An empty text counts as the first token of the input.
        """
        return tuple(self._read(*_moved_to_front(input_ids, mask)) for mask in masks)

    def _read(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embeddings(input_ids), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        _, (last, _) = self.lstm(packed)  # (2, B, H / 2)
        return torch.cat((last[0], last[1]), dim=-1)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any
    ) -> BaseModelOutputWithPooling:
        """(B, S) to the rows of the table (B, S, width) and the text's vector (B, H)."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        (vector,) = self.vectors(input_ids, (mask,))
        return BaseModelOutputWithPooling(last_hidden_state=self.embeddings(input_ids), pooler_output=vector)


def _moved_to_front(input_ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The ids from each row's first position in ``mask`` on, (B, S), and how many there are, at least 1."""
    places = mask.argmax(1, keepdim=True) + torch.arange(mask.shape[1], device=mask.device)
    moved = input_ids.gather(1, places.clamp(max=mask.shape[1] - 1))
    return moved, mask.sum(1).clamp(min=1)


class _Head(nn.Module):
    """From a text's vector, or those of a pair, to logits.

    A pair is (u, v, |u − v|, u ∘ v) side by side.
    """

    def __init__(self, config: TextVectorConfig) -> None:
        super().__init__()
        width = config.hidden_size * (4 if config.pairs else 1)
        self.dense = nn.Linear(width, config.head_size) if config.head_size else None
        self.dropout = nn.Dropout(config.dropout)
        self.out_proj = nn.Linear(config.head_size or width, config.num_labels)

    def forward(self, vectors: tuple[Tensor, ...]) -> Tensor:
        """(B, H) of each text to (B, labels)."""
        features = vectors[0]
        if len(vectors) == 2:
            first, second = vectors
            features = torch.cat((first, second, (first - second).abs(), first * second), dim=-1)
        if self.dense is not None:
            features = torch.relu(self.dense(features))
        logits: Tensor = self.out_proj(self.dropout(features))
        return logits


class _Classifier(_TextVectorModel):
    """An encoder and its head."""

    encoder_class: ClassVar[type[StaticEmbeddingModel | BiLSTMModel]]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.encoder = self.encoder_class(config)
        self.classifier = _Head(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.encoder.set_input_embeddings(value)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any
    ) -> SequenceClassifierOutput:
        """(B, S) to logits (B, labels)."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        vectors = self.encoder.vectors(input_ids, text_masks(input_ids, mask, self.config))
        return SequenceClassifierOutput(logits=self.classifier(vectors))


class StaticEmbeddingForSequenceClassification(_Classifier):
    """A classifier of mean vectors."""

    config_class = StaticEmbeddingConfig
    encoder_class = StaticEmbeddingModel


class BiLSTMForSequenceClassification(_Classifier):
    """A classifier of what an LSTM read."""

    config_class = BiLSTMConfig
    encoder_class = BiLSTMModel


NETWORKS: dict[type[PreTrainedConfig], dict[str, type[PreTrainedModel]]] = {
    StaticEmbeddingConfig: {
        "AutoModel": StaticEmbeddingModel,
        "AutoModelForSequenceClassification": StaticEmbeddingForSequenceClassification,
    },
    BiLSTMConfig: {
        "AutoModel": BiLSTMModel,
        "AutoModelForSequenceClassification": BiLSTMForSequenceClassification,
    },
}

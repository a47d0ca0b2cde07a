"""Dynamic masking for masked-language-model training: which words to hide, and behind what.

Devlin et al. 2019 (arXiv 1810.04805): 15 % of the words are predicted; of these 80 % become [MASK], 10 % a
random word, 10 % stay. Sanh et al. 2019 (arXiv 1910.01108) draw rarer words more often.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from compressbert.errors import ConfigError, InputError

NOT_SCORED = -100


@dataclass(frozen=True)
class Masking:
    """How words are masked.

    Attributes:
        mask_id: Id of the mask token.
        vocabulary: Number of word pieces.
        special_ids: Never masked and never put in as a random word.
        probability: Share of the words that is predicted.
        masked: Share of these that becomes the mask token.
        random: Share of these that becomes a random word; the rest stays as it is.
        weights: (V,) relative chance of each word piece to be predicted; None for equal chances.
    """

    mask_id: int
    vocabulary: int
    special_ids: tuple[int, ...]
    probability: float = 0.15
    masked: float = 0.8
    random: float = 0.1
    weights: Tensor | None = None

    def __post_init__(self) -> None:
        if (
            not 0 < self.probability <= 1
            or self.masked < 0
            or self.random < 0
            or self.masked + self.random > 1
        ):
            raise ConfigError(
                f"masking: expected 0 < probability <= 1 and masked + random <= 1, found {self.probability}, "
                f"{self.masked} and {self.random}",
                hint="The paper's values are 0.15, 0.8 and 0.1.",
            )

    @classmethod
    def of(cls, tokenizer: Any) -> Masking:
        """The paper's masking for a tokenizer. InputError if it has no mask token."""
        if tokenizer.mask_token_id is None:
            raise InputError(
                "the tokenizer has no mask token, which masked-lm needs", hint="Use a BERT-like model."
            )
        special = tuple(sorted(int(index) for index in tokenizer.all_special_ids))
        return cls(mask_id=int(tokenizer.mask_token_id), vocabulary=len(tokenizer), special_ids=special)


def mask_tokens(
    ids: Tensor, attention_mask: Tensor, masking: Masking, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Mask a batch.

    Args:
        ids: (B, S) int64.
        attention_mask: (B, S); 0 where padded.
        masking: The settings.
        noise: (B, S, 3) uniform numbers in [0, 1): which words, what they become, which random word
            (`noise_for_batch`, `noise_for_rows`). The result is a function of them alone.

    Returns:
        The masked ids (B, S), and labels (B, S): the original id where it is to be predicted, else -100.
    """
    special = torch.zeros(masking.vocabulary, dtype=torch.bool)
    special[list(masking.special_ids)] = True
    candidates = attention_mask.bool() & ~special[ids]
    chosen = _chosen(ids, candidates, masking, noise[..., 0])
    fate = noise[..., 1]
    words = torch.nonzero(~special).squeeze(1)
    random_words = words[(noise[..., 2].double() * len(words)).long()]
    result = torch.where(chosen & (fate < masking.masked), masking.mask_id, ids)
    as_random = chosen & (fate >= masking.masked) & (fate < masking.masked + masking.random)
    result = torch.where(as_random, random_words, result)
    return result, torch.where(chosen, ids, NOT_SCORED)


def _chosen(ids: Tensor, candidates: Tensor, masking: Masking, noise: Tensor) -> Tensor:
    if masking.weights is None:
        return candidates & (noise < masking.probability)
    # Weighted drawing without replacement: the smallest exponential(rate = weight) keys win (Efraimidis &
    # Spirakis).
    weights = torch.where(candidates, masking.weights[ids].double(), 0.0)
    keys = (
        -torch.log1p(-noise.double()) / weights
    )  # a weight of 0 never wins: its key is infinite (or nan for noise 0)
    keys = torch.where(weights > 0, keys, torch.inf)
    count = min(int(torch.ceil(candidates.sum() * masking.probability)), int((weights > 0).sum()))
    chosen = torch.zeros_like(candidates).view(-1)
    chosen[keys.view(-1).topk(count, largest=False).indices] = True
    return chosen.view_as(candidates)


def noise_for_batch(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """(B, S, 3) uniform numbers from one generator: for training, new ones each epoch."""
    return torch.rand(*shape, 3, generator=generator)


def noise_for_rows(rows: Sequence[int], length: int, seed: int = 0) -> Tensor:
    """(B, S, 3) uniform numbers that depend on each row's number alone: for evaluation, the same whatever the
    batches.
    """
    return torch.stack([torch.rand(length, 3, generator=_generator(seed, row)) for row in rows])


def _generator(seed: int, row: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + row) % 2**63)


def smoothed_weights(counts: Tensor, special_ids: Iterable[int], exponent: float = 0.7) -> Tensor:
    """Chances ∝ frequency^-exponent, so that rare words are predicted more often (Sanh et al. 2019; 0.7
    there).

    Args:
        counts: (V,) how often each word piece occurs in the corpus; 0 is taken as 1.
        special_ids: Get weight 0.
        exponent: 0 gives equal chances.

    Returns:
        (V,) float32 for ``Masking.weights``.
    """
    weights = counts.clamp(min=1).float() ** -exponent
    weights[list(special_ids)] = 0.0
    return weights

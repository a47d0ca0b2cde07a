"""Dynamic masking for masked-language-model training: which words to hide, and behind what.

Devlin et al. 2019 (arXiv 1810.04805): 15 % of the word pieces are predicted; of these 80 % become [MASK], 10 % a
random piece, 10 % stay. Whole words are drawn in the authors' later models; Joshi et al. 2020 (arXiv 1907.10529)
draw spans of whole words, whose pieces all meet the same fate. Sanh et al. 2019 (arXiv 1910.01108) draw rarer
pieces more often.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from compressbert.config.schema import MaskingSettings
from compressbert.errors import ConfigError, InputError

Unit: TypeAlias = Literal["piece", "word", "span"]
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
        unit: What is drawn: pieces, whole words, or spans of whole words.
        continues: (V,) whether a piece goes on with the word before it; None for drawing pieces.
        span_chance: Chance of a span to end after each word.
        span_longest: Longest span in words.
    """

    mask_id: int
    vocabulary: int
    special_ids: tuple[int, ...]
    probability: float = 0.15
    masked: float = 0.8
    random: float = 0.1
    weights: Tensor | None = None
    unit: Unit = "piece"
    continues: Tensor | None = None
    span_chance: float = 0.2
    span_longest: int = 10

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
        if self.weights is not None and self.unit != "piece":
            raise ConfigError(
                f"masking: weights are those of single pieces, but data.masking.unit is {self.unit}",
                hint="Set data.masking.unit: piece, or rare_words: 0 in the method.",
            )

    @classmethod
    def of(cls, tokenizer: Any, settings: MaskingSettings | None = None) -> Masking:
        """The masking of some settings (default: the paper's) for a tokenizer. InputError if it has no mask
        token.
        """
        settings = settings or MaskingSettings()
        if tokenizer.mask_token_id is None:
            raise InputError(
                "the tokenizer has no mask token, which masked-lm needs", hint="Use a BERT-like model."
            )
        special = tuple(sorted(int(index) for index in tokenizer.all_special_ids))
        return cls(
            mask_id=int(tokenizer.mask_token_id),
            vocabulary=len(tokenizer),
            special_ids=special,
            probability=settings.probability,
            unit=settings.unit,
            continues=None if settings.unit == "piece" else continuing_pieces(tokenizer),
            span_chance=settings.span_chance,
            span_longest=settings.span_longest,
        )

    @property
    def facts(self) -> tuple[object, ...]:
        """What draws depend on besides the weights, as plain values."""
        return (self.probability, self.masked, self.random, self.unit, self.span_chance, self.span_longest)


def continuing_pieces(tokenizer: Any) -> Tensor:
    """(V,) whether each piece goes on with a word: ##ly of WordPiece, or no mark of a word's beginning (▁, Ġ).

    Raises:
        InputError: The tokenizer marks neither.
    """
    described = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    prefix = described.get("continuing_subword_prefix")
    if prefix:
        return torch.tensor([piece.startswith(prefix) for piece in pieces])
    begins = [piece.startswith(("▁", "Ġ")) for piece in pieces]
    if not any(begins):
        raise InputError(
            "the tokenizer does not tell where words begin, so whole words cannot be masked",
            hint="Set data.masking.unit: piece.",
        )
    return torch.tensor([not begin for begin in begins])


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
    fate, word_noise = noise[..., 1], noise[..., 2]
    if masking.unit == "span":
        chosen, fate = _spans(_words(ids, candidates, masking), masking, noise)
        word_noise = (word_noise + noise[..., 0]) % 1  # the lengths of spans were drawn with the former
    elif masking.unit == "word":
        words = _words(ids, candidates, masking)
        chosen = candidates & (noise[..., 0].gather(1, _first_piece(words)) < masking.probability)
    else:
        chosen = _chosen(ids, candidates, masking, noise[..., 0])
    plain = torch.nonzero(~special).squeeze(1)
    random_words = plain[(word_noise.double() * len(plain)).long()]
    result = torch.where(chosen & (fate < masking.masked), masking.mask_id, ids)
    as_random = chosen & (fate >= masking.masked) & (fate < masking.masked + masking.random)
    result = torch.where(as_random, random_words, result)
    return result, torch.where(chosen, ids, NOT_SCORED)


def _words(ids: Tensor, candidates: Tensor, masking: Masking) -> Tensor:
    """(B, S) number of the word, within its row, that each candidate is part of; -1 elsewhere."""
    if masking.continues is None:
        raise ConfigError("masking: whole words need to know which pieces go on with a word")
    before = torch.cat([torch.zeros_like(candidates[:, :1]), candidates[:, :-1]], dim=1)
    begins = candidates & ~(masking.continues[ids] & before)
    return torch.where(candidates, begins.cumsum(dim=1) - 1, -1)


def _first_piece(words: Tensor) -> Tensor:
    """(B, S) position of the first piece of the word each piece is part of; 0 outside of words."""
    positions = torch.arange(words.shape[1]).expand_as(words)
    before = torch.cat([torch.full_like(words[:, :1], -1), words[:, :-1]], dim=1)
    begins = (words >= 0) & (words != before)
    return torch.where(begins, positions, 0).cummax(dim=1).values


def _spans(words: Tensor, masking: Masking, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Which pieces are predicted, (B, S), and for each the number that decides its fate: that of its span.

    Spans begin at words in random order and are as long as drawn, up to the next span, the end of the row, or
    the share of pieces that is wanted, which the last word may exceed.
    """
    chosen, fate = torch.zeros_like(words, dtype=torch.bool), noise[..., 1].clone()
    ending = 1 - masking.span_chance
    for row in range(len(words)):
        pieces = [torch.nonzero(words[row] == word).squeeze(1) for word in range(int(words[row].max()) + 1)]
        left = int(torch.ceil((words[row] >= 0).sum() * masking.probability))
        firsts = [int(found[0]) for found in pieces]
        for word in sorted(range(len(pieces)), key=lambda word: float(noise[row, firsts[word], 0])):
            drawn = float(noise[row, firsts[word], 2]) * (1 - ending**masking.span_longest)
            length = 1 + int(math.log1p(-drawn) / math.log(ending))  # geometric, cut at the longest
            for inside in pieces[word : word + length]:
                if left <= 0 or bool(chosen[row, inside[0]]):
                    break
                chosen[row, inside] = True
                fate[row, inside] = noise[row, firsts[word], 1]
                left -= len(inside)
    return chosen, fate


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

"""Proposes words in place of others: a masked language model where the word is one piece, else the nearest words.

TinyBERT's augmentation (Jiao et al. 2020, arXiv 1909.10351): the model reads the text with the word masked, and the
text itself behind it. Words of several pieces get their neighbours among the whole words of the vocabulary, by cosine
of the model's own word vectors (the paper takes GloVe's).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from compressbert import progress
from compressbert.data.augment.words import Word
from compressbert.errors import ConfigError
from compressbert.model.handle import Model

BATCH = 64
_WORD_STARTS = (
    "Ġ",
    "▁",
)  # what stands for a blank in front of a word, in byte-level and sentencepiece vocabularies


class WordProposer:
    """Words in place of others.

    Args:
        model: With a masked-language-model head.
        candidates: How many are proposed for each.

    Raises:
        ConfigError: The model has another head, or its tokenizer no mask token.
    """

    def __init__(self, model: Model, candidates: int) -> None:
        if not type(model.network).__name__.endswith("ForMaskedLM") or model.tokenizer.mask_token is None:
            raise ConfigError(
                f"augment: kind: masked-lm needs a masked language model, found {type(model.network).__name__}.",
                hint="Name one: augment: {kind: masked-lm, masked_lm: {model: {path: FOLDER}}}; or set kind: rules.",
            )
        self.model, self.tokenizer, self.candidates = model.eval(), model.tokenizer, candidates
        self.words = _whole_words(self.tokenizer, int(model.network.config.vocab_size))
        self.ids = torch.tensor(sorted(self.words))
        table = cast(Tensor, model.network.get_input_embeddings().weight).detach().float().cpu()
        self.table = functional.normalize(table, dim=-1)

    def propose(self, places: Sequence[tuple[str, Word]]) -> list[tuple[str, ...]]:
        """Candidates for each word, the likeliest first, never the word itself; a capital stays one."""
        pieces = self._pieces(places)
        found: list[tuple[str, ...]] = [()] * len(places)
        single = [index for index, its in enumerate(pieces) if len(its) == 1]
        order = sorted(single, key=lambda index: len(places[index][0]))
        with progress.track("proposing words", len(single), "words") as shown:
            for start in range(0, len(order), BATCH):
                chosen = order[start : start + BATCH]
                for index, ids in zip(chosen, self._likeliest([places[i] for i in chosen]), strict=True):
                    found[index] = self._named(ids, places[index][1])
                shown.advance(len(chosen))
        for index, its in enumerate(pieces):
            if len(its) > 1:
                found[index] = self._named(self._nearest(its), places[index][1])
        return found

    def _pieces(self, places: Sequence[tuple[str, Word]]) -> list[list[int]]:
        """The ids of each word's pieces, as it is cut where it stands."""
        texts = list(dict.fromkeys(text for text, _ in places))
        cut = {text: self._cut(text) for text in texts}
        return [
            [piece for piece, start, end in cut[text] if start < word.end and end > word.start]
            for text, word in places
        ]

    def _cut(self, text: str) -> list[tuple[int, int, int]]:
        encoding = self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        return [(piece, *where) for piece, where in zip(encoding.ids, encoding.offsets, strict=True)]

    @torch.inference_mode()
    def _likeliest(self, places: Sequence[tuple[str, Word]]) -> Iterator[list[int]]:
        """Ids of the likeliest whole words at each place; none where the tokenizer cut it away."""
        mask = self.tokenizer.mask_token
        masked = [f"{text[: word.start]}{mask}{text[word.end :]}" for text, word in places]
        limit = min(self.tokenizer.model_max_length, 512)
        batch = self.tokenizer(
            masked,
            [text for text, _ in places],
            padding=True,
            truncation=True,
            max_length=limit,
            return_tensors="pt",
        ).to(self.model.network.device)
        at = batch["input_ids"] == self.tokenizer.mask_token_id
        with _states_at(self.model, at.int().argmax(1)):
            scores = self.model(**batch).logits[:, 0].float().cpu()  # (B, V)
        best = scores[:, self.ids].topk(min(self.candidates + 1, len(self.ids))).indices
        for present, row in zip(at.any(1).tolist(), self.ids[best].tolist(), strict=True):
            yield row if present else []

    def _nearest(self, pieces: list[int]) -> list[int]:
        """Ids of the whole words whose vectors point where the mean of these pieces' vectors does."""
        query = functional.normalize(self.table[pieces].mean(0), dim=0)
        close = self.table[self.ids] @ query
        return cast(list[int], self.ids[close.topk(min(self.candidates + 1, len(self.ids))).indices].tolist())

    def _named(self, ids: Sequence[int], word: Word) -> tuple[str, ...]:
        names = [self.words[found] for found in ids]
        others = [name for name in names if name.lower() != word.text.lower()][: self.candidates]
        capital = word.text[:1].isupper()
        return tuple(name[:1].upper() + name[1:] if capital else name for name in others)


def _whole_words(tokenizer: Any, size: int) -> dict[int, str]:
    """The vocabulary's pieces that are words of letters by themselves, by id."""
    pieces = tokenizer.convert_ids_to_tokens(list(range(min(size, len(tokenizer)))))
    marked = [piece for piece in pieces if piece.startswith(_WORD_STARTS)]
    special = set(tokenizer.all_special_ids)
    found = {}
    for number, piece in enumerate(pieces):
        if marked and not piece.startswith(_WORD_STARTS):
            continue
        word = tokenizer.decode([number]).strip() if marked else piece
        if number not in special and word.isalpha():
            found[number] = word
    return found


@contextmanager
def _states_at(model: Model, places: Tensor) -> Iterator[None]:
    """Let the head see one position of each row while the block runs: scores of all others would fill memory."""

    def pick(_: Any, __: Any, output: Any) -> Any:
        states = output["last_hidden_state"]
        output["last_hidden_state"] = states[torch.arange(len(places), device=states.device), places][:, None]
        return output

    handle = model.network.base_model.register_forward_hook(pick)
    try:
        yield
    finally:
        handle.remove()

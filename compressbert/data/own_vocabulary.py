"""A small WordPiece tokenizer that stands in for a model's own: trained on some rows, laid out as that one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from compressbert.data.read import Split
from compressbert.data.vocabulary import wordpiece_vocabulary
from compressbert.errors import InputError

_ROLES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
_ROWS_AT_ONCE = 1000


def small_tokenizer(like: Any, split: Split, *, size: int) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer of at most ``size`` pieces trained on the texts of ``split``.

    It has the special tokens of ``like``, in the order of their ids there and from 0 on, surrounds texts and pairs
    with them in the same way, and lower-cases if ``like`` does. So it serves a network of the same architecture.

    Args:
        like: The tokenizer of the model it replaces.
        split: Rows whose texts, first and second, are the corpus.
        size: As in `vocabulary.train_wordpiece`: characters are all kept.

    Raises:
        InputError: ``like`` lacks one of the special tokens, or the rows hold no word.
    """
    names = {role: getattr(like, role) for role in _ROLES}
    missing = [role for role, token in names.items() if token is None]
    if missing:
        raise InputError(
            f"the tokenizer has no {missing[0].removesuffix('_token')} token, which a small vocabulary needs",
            hint="Use a BERT-like model.",
        )
    special = sorted(set(names.values()), key=like.convert_tokens_to_ids)
    lowercase = lowercases(like)
    vocabulary = wordpiece_vocabulary(
        texts_of(split), size=size, lowercase=lowercase, special_tokens=special, unknown=names["unk_token"]
    )
    backend = Tokenizer(WordPiece(vocabulary, unk_token=names["unk_token"]))
    backend.normalizer = BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = BertPreTokenizer()
    backend.decoder = WordPieceDecoder()
    backend.post_processor = _surrounding(like, vocabulary)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=like.model_max_length,
        model_input_names=list(like.model_input_names),
        **names,
    )


def lowercases(tokenizer: Any) -> bool:
    """Whether a tokenizer lower-cases its texts."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    return normalizer is not None and normalizer.normalize_str("A") == "a"


def texts_of(split: Split) -> Iterator[str]:
    """Every text of the rows, first and second."""
    columns = [name for name in ("text", "text_pair") if name in split.rows.column_names]
    for batch in split.rows.with_format("arrow").iter(batch_size=_ROWS_AT_ONCE):
        for column in columns:
            yield from batch[column].to_pylist()


def _surrounding(like: Any, vocabulary: dict[str, int]) -> TemplateProcessing:
    """What ``like`` puts around a text and a pair, read off what it makes of single letters."""
    parts = {}
    for name, texts in (("single", ("a",)), ("pair", ("a", "a"))):
        encoding = like.backend_tokenizer.encode(*texts)
        found: list[str] = []
        for token, kind, sequence in zip(
            encoding.tokens, encoding.type_ids, encoding.sequence_ids, strict=True
        ):
            place = f"{token if sequence is None else '$' + 'AB'[sequence]}:{kind}"
            if not found or found[-1] != place or sequence is None:
                found.append(place)
        parts[name] = found
    used = {place.rpartition(":")[0] for place in parts["pair"]} - {"$A", "$B"}
    return TemplateProcessing(
        single=parts["single"],
        pair=parts["pair"],
        special_tokens=[(token, vocabulary[token]) for token in sorted(used)],
    )


def same_pieces(one: Any, other: Any) -> bool:
    """Whether two tokenizers cut every text alike into the same ids."""
    described = []
    for tokenizer in (one, other):
        backend = tokenizer.backend_tokenizer
        found, pair = json.loads(backend.to_str()), backend.encode("a", "a")
        described.append(
            [found["normalizer"], found["pre_tokenizer"], found["model"], pair.ids, pair.type_ids]
        )
    return bool(described[0] == described[1])

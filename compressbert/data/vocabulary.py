"""Trains a WordPiece vocabulary on texts and makes a BERT tokenizer of it."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.trainers import WordPieceTrainer
from transformers import BertTokenizer

from compressbert.errors import InputError

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train_tokenizer(
    texts: Iterable[str],
    *,
    size: int = 8000,
    lowercase: bool = True,
    min_frequency: int = 1,
    max_length: int = 512,
) -> BertTokenizer:
    """Train a WordPiece vocabulary (Schuster & Nakajima 2012, as BERT uses it) and wrap it for transformers.

    Args:
        texts: Read once, one text at a time.
        size: Largest vocabulary, the five special tokens included; a small corpus gives a smaller one.
        lowercase: Lower-case and strip accents, as uncased BERT does.
        min_frequency: How often a pair of pieces must occur to be merged.
        max_length: The longest row the model will take, stored with the tokenizer.

    Returns:
        A tokenizer with BERT's special tokens ([PAD] is 0) and template; it saves and loads with
        AutoTokenizer. The same texts give the same vocabulary.

    Raises:
        InputError: The texts hold no word at all.
    """
    learner = Tokenizer(WordPiece(unk_token="[UNK]"))
    learner.normalizer = BertNormalizer(lowercase=lowercase)
    learner.pre_tokenizer = BertPreTokenizer()
    trainer = WordPieceTrainer(
        vocab_size=size, min_frequency=min_frequency, special_tokens=list(SPECIAL_TOKENS), show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    vocabulary = learner.get_vocab()
    if len(vocabulary) == len(SPECIAL_TOKENS):
        raise InputError(
            "vocabulary: expected texts with words, found none", hint="Give a file with text in it."
        )
    ordered = dict(sorted(vocabulary.items(), key=lambda item: item[1]))
    return BertTokenizer(vocab=ordered, do_lower_case=lowercase, model_max_length=max_length)

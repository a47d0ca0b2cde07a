"""Trains a WordPiece vocabulary on texts and makes a BERT tokenizer of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, WhitespaceSplit
from tokenizers.trainers import WordPieceTrainer
from transformers import BertTokenizer

from compressbert.errors import InputError

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORDS_A_LINE = 1000


def train_wordpiece(
    texts: Iterable[str],
    *,
    size: int = 8000,
    lowercase: bool = True,
    min_frequency: int = 1,
    max_length: int = 512,
) -> BertTokenizer:
    """Train a WordPiece vocabulary and wrap it for transformers.

    Pieces are merged by frequency, as in byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909), which
    is what the tokenizers library does under the name WordPiece; texts are then cut greedily, longest piece
    first, as in BERT.

    Args:
        texts: Read once, one text at a time; only the counts of different words stay in memory.
        size: Largest vocabulary, the five special tokens included; a small corpus gives a smaller one. Single
            characters are all kept, even if they alone are more.
        lowercase: Lower-case and strip accents, as uncased BERT does.
        min_frequency: How often a pair of pieces must occur to be merged.
        max_length: The longest row the model will take, stored with the tokenizer.

    Returns:
        A tokenizer with BERT's special tokens ([PAD] is 0) and template; it saves and loads with
        AutoTokenizer. The same texts give the same vocabulary in every process.

    Raises:
        InputError: The texts hold no word at all.
    """
    vocabulary = wordpiece_vocabulary(texts, size=size, lowercase=lowercase, min_frequency=min_frequency)
    return BertTokenizer(vocab=vocabulary, do_lower_case=lowercase, model_max_length=max_length)


def wordpiece_vocabulary(
    texts: Iterable[str],
    *,
    size: int,
    lowercase: bool = True,
    min_frequency: int = 1,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    unknown: str = "[UNK]",
) -> dict[str, int]:
    """The pieces of `train_wordpiece` with their ids, in order; the special tokens come first, in their order.

    Raises:
        InputError: The texts hold no word at all.
    """
    counts = _count_words(texts, lowercase)
    if not counts:
        raise InputError(
            "vocabulary: expected texts with words, found none", hint="Give a file with text in it."
        )
    # The library numbers the pieces of single characters in the order of a randomly seeded hash map, and
    # breaks ties by number. Naming those pieces up front, as if they were special, fixes their numbers and
    # with them every merge.
    inner = sorted({f"##{character}" for word in counts for character in word[1:]})
    learner = Tokenizer(WordPiece(unk_token=unknown))
    learner.pre_tokenizer = WhitespaceSplit()
    trainer = WordPieceTrainer(
        vocab_size=size,
        min_frequency=min_frequency,
        special_tokens=[*special_tokens, *inner],
        show_progress=False,
    )
    learner.train_from_iterator(_repeated(counts), trainer)
    return dict(sorted(learner.get_vocab().items(), key=lambda item: item[1]))


def _count_words(texts: Iterable[str], lowercase: bool) -> Counter[str]:
    normalizer, splitter = BertNormalizer(lowercase=lowercase), BertPreTokenizer()
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    return counts


def _repeated(counts: Counter[str]) -> Iterator[str]:
    """Lines with every word as often as it was counted."""
    for word, count in sorted(counts.items()):
        for start in range(0, count, _WORDS_A_LINE):
            yield " ".join([word] * min(_WORDS_A_LINE, count - start))

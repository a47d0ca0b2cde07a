"""Tiny models, tokenizers and data for tests: built in milliseconds, nothing downloaded."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    AlbertForQuestionAnswering,
    AlbertForSequenceClassification,
    AlbertForTokenClassification,
    AlbertModel,
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForQuestionAnswering,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
    DistilBertModel,
    ElectraConfig,
    ElectraForMaskedLM,
    ElectraForQuestionAnswering,
    ElectraForSequenceClassification,
    ElectraForTokenClassification,
    ElectraModel,
    ModernBertConfig,
    ModernBertForMaskedLM,
    ModernBertForQuestionAnswering,
    ModernBertForSequenceClassification,
    ModernBertForTokenClassification,
    ModernBertModel,
    MPNetConfig,
    MPNetForMaskedLM,
    MPNetForQuestionAnswering,
    MPNetForSequenceClassification,
    MPNetForTokenClassification,
    MPNetModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForQuestionAnswering,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
)

KINDS: dict[str, dict[str, type[PreTrainedModel]]] = {
    "bert": {
        "classification": BertForSequenceClassification,
        "masked-lm": BertForMaskedLM,
        "tokens": BertForTokenClassification,
        "answers": BertForQuestionAnswering,
        "none": BertModel,
    },
    "roberta": {
        "classification": RobertaForSequenceClassification,
        "masked-lm": RobertaForMaskedLM,
        "tokens": RobertaForTokenClassification,
        "answers": RobertaForQuestionAnswering,
        "none": RobertaModel,
    },
    "distilbert": {
        "classification": DistilBertForSequenceClassification,
        "masked-lm": DistilBertForMaskedLM,
        "tokens": DistilBertForTokenClassification,
        "answers": DistilBertForQuestionAnswering,
        "none": DistilBertModel,
    },
    "electra": {
        "classification": ElectraForSequenceClassification,
        "masked-lm": ElectraForMaskedLM,
        "tokens": ElectraForTokenClassification,
        "answers": ElectraForQuestionAnswering,
        "none": ElectraModel,
    },
    "albert": {
        "classification": AlbertForSequenceClassification,
        "masked-lm": AlbertForMaskedLM,
        "tokens": AlbertForTokenClassification,
        "answers": AlbertForQuestionAnswering,
        "none": AlbertModel,
    },
    "modernbert": {
        "classification": ModernBertForSequenceClassification,
        "masked-lm": ModernBertForMaskedLM,
        "tokens": ModernBertForTokenClassification,
        "answers": ModernBertForQuestionAnswering,
        "none": ModernBertModel,
    },
    "mpnet": {
        "classification": MPNetForSequenceClassification,
        "masked-lm": MPNetForMaskedLM,
        "tokens": MPNetForTokenClassification,
        "answers": MPNetForQuestionAnswering,
        "none": MPNetModel,
    },
}

FAMILIES = ("bert", "roberta", "distilbert", "electra", "albert", "modernbert")
LIKE_ROBERTA = ("roberta", "mpnet")  # in their special tokens and positions
WITH_VECTORS = FAMILIES[:-1]  # those whose queries, keys and values are products of their own


def own_weights(family: str, layers: int = 2) -> dict[str, int]:
    """Config values that give every layer weights of its own, where a family's layers share them."""
    return {"num_hidden_groups": layers} if family == "albert" else {}


POSITIVE = ["good", "great", "fine", "lovely", "bright", "warm", "superb", "sweet"]
NEGATIVE = ["bad", "awful", "poor", "dull", "bleak", "cold", "dreadful", "sour"]
NEUTRAL = [
    "the",
    "film",
    "plot",
    "song",
    "book",
    "scene",
    "was",
    "and",
    "story",
    "cast",
    "not",
    "very",
    "##s",
    "##ly",
]
SPECIAL = {
    "bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    "roberta": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
}


def _special(family: str) -> list[str]:
    return SPECIAL["roberta" if family in LIKE_ROBERTA else "bert"]


def tiny_vocabulary(family: str = "bert") -> list[str]:
    return [*_special(family), *POSITIVE, *NEGATIVE, *NEUTRAL]


def tiny_tokenizer(family: str = "bert") -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer over a few dozen words, with the family's special tokens."""
    vocabulary = {word: index for index, word in enumerate(tiny_vocabulary(family))}
    if family in LIKE_ROBERTA:
        cls, pad, sep, unk, mask = _special(family)
    else:
        pad, unk, cls, sep, mask = _special(family)
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token=unk))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    pair_type = 0 if family in ("distilbert", "modernbert", *LIKE_ROBERTA) else 1
    tokenizer.post_processor = TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:{pair_type} {sep}:{pair_type}",
        special_tokens=[(cls, vocabulary[cls]), (sep, vocabulary[sep])],
    )
    names = ["input_ids", "attention_mask"]
    if pair_type:
        names.append("token_type_ids")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, unk_token=unk, cls_token=cls, sep_token=sep, mask_token=mask,
        model_max_length=64, model_input_names=names,
    )  # fmt: skip


def tiny_network(
    family: str = "bert", *, layers: int = 2, hidden: int = 32, heads: int = 4, ffn: int = 64, labels: int = 2,
    head: str = "classification", seed: int = 0, **config: Any,
) -> PreTrainedModel:  # fmt: skip
    """A stock network with random weights spread widely enough that logits differ between inputs."""
    torch.manual_seed(seed)
    vocabulary = len(tiny_vocabulary(family))
    common: dict[str, Any] = {"vocab_size": vocabulary, "num_labels": labels, "initializer_range": 0.2}
    if family == "distilbert":
        sizes = {
            "n_layers": layers,
            "dim": hidden,
            "n_heads": heads,
            "hidden_dim": ffn,
            "max_position_embeddings": 64,
        }
        settings = DistilBertConfig(pad_token_id=0, **common, **sizes, **config)
    else:
        sizes = {
            "num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads,
            "intermediate_size": ffn, "max_position_embeddings": 66 if family in LIKE_ROBERTA else 64,
        }  # fmt: skip
        if family == "modernbert":  # windows shorter than most test sentences
            own = {"local_attention": 8, "pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3}
            settings = ModernBertConfig(**common, **sizes, **own, bos_token_id=2, eos_token_id=3, **config)
        elif family == "mpnet":
            settings = MPNetConfig(
                pad_token_id=1, bos_token_id=0, eos_token_id=2, **common, **sizes, **config
            )
        elif family == "bert":
            settings = BertConfig(**common, **sizes, **config)
        elif family == "roberta":
            settings = RobertaConfig(
                type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2, **common, **sizes, **config
            )
        else:
            kind = {"electra": ElectraConfig, "albert": AlbertConfig}[family]
            settings = kind(**common, **sizes, **{"embedding_size": hidden // 2, **config})
    network = KINDS[family][head](settings)
    torch.manual_seed(seed + 1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() == 1:  # biases and LayerNorms start at 0 and 1, which would hide mistakes
                parameter.add_(torch.randn_like(parameter) * 0.1)
            if name.endswith(("word_embeddings.weight", "tok_embeddings.weight")):
                parameter[1 if family in LIKE_ROBERTA else 0].zero_()
    return network.eval()


def save_tiny(folder: Path, family: str = "bert", **options: Any) -> Path:
    """Save a tiny stock model with its tokenizer, as any hub model would lie on disk."""
    network = tiny_network(family, **options)
    labels = network.config.num_labels
    names = ["negative", "positive"] if labels == 2 else [f"class{i}" for i in range(labels)]
    network.config.id2label = dict(enumerate(names))
    network.config.label2id = {name: index for index, name in enumerate(names)}
    network.save_pretrained(folder)
    tiny_tokenizer(family).save_pretrained(folder)
    return folder


def toy_rows(count: int, *, seed: int = 0, pairs: bool = False) -> list[dict[str, Any]]:
    """Labelled sentences: positive if there are more positive words than negative ones."""
    generator = random.Random(seed)
    rows = []
    for _ in range(count):
        label = generator.randrange(2)
        words = generator.choices(POSITIVE if label else NEGATIVE, k=2) + generator.choices(
            NEUTRAL[:-2], k=generator.randrange(1, 9)
        )
        generator.shuffle(words)
        row: dict[str, Any] = {"sentence": " ".join(words), "label": label}
        if pairs:
            row = {
                "sentence1": row["sentence"],
                "sentence2": " ".join(generator.choices(NEUTRAL[:-2], k=3)),
                "label": label,
            }
        rows.append(row)
    return rows


TAGS = ("O", "B-GOOD", "I-GOOD", "B-BAD", "I-BAD")


def tagged_rows(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Sentences as words with a tag for each: runs of positive or negative words are entities."""
    rows = []
    for row in toy_rows(count, seed=seed):
        words, tags, before = row["sentence"].split(), [], ""
        for word in words:
            kind = "GOOD" if word in POSITIVE else "BAD" if word in NEGATIVE else ""
            tags.append("O" if not kind else f"{'I' if kind == before else 'B'}-{kind}")
            before = kind
        rows.append({"tokens": words, "ner_tags": tags})
    return rows


def question_rows(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Questions whose answer is the first positive word of the context."""
    generator = random.Random(seed)
    rows = []
    for _ in range(count):
        words = generator.choices(NEUTRAL[:-2] + NEGATIVE, k=generator.randrange(4, 30))
        words.insert(generator.randrange(len(words)), generator.choice(POSITIVE))
        context = " ".join(words)
        answer = next(word for word in words if word in POSITIVE)
        start = len(" ".join(words[: words.index(answer)]) + " ") if words[0] != answer else 0
        rows.append(
            {
                "question": "was the film good",
                "context": context,
                "answers": {"text": [answer], "answer_start": [start]},
            }
        )
    return rows


def scored_pairs(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Two sentences and the share of words they have in common."""
    generator = random.Random(seed)
    rows = []
    for row in toy_rows(count, seed=seed):
        words = row["sentence"].split()
        kept = generator.sample(words, k=generator.randrange(1, len(words) + 1))
        other = kept + generator.choices(NEUTRAL[:-2], k=len(words) - len(kept))
        score = len(set(words) & set(other)) / len(set(words) | set(other))
        rows.append({"sentence1": row["sentence"], "sentence2": " ".join(other), "score": score})
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def padded_batch(
    family: str = "bert", *, lengths: tuple[int, ...] = (9, 5, 2), seed: int = 0
) -> dict[str, torch.Tensor]:
    """Random token ids of uneven lengths, right-padded, with their mask (and types for families that take them)."""
    generator = torch.Generator().manual_seed(seed)
    pad = 1 if family in LIKE_ROBERTA else 0
    ids = torch.full((len(lengths), max(lengths)), pad)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(5, len(tiny_vocabulary(family)), (length,), generator=generator)
        mask[row, :length] = 1
    batch = {"input_ids": ids, "attention_mask": mask}
    if family in ("bert", "electra", "albert"):
        batch["token_type_ids"] = (torch.arange(ids.shape[1]) > ids.shape[1] // 2).long().expand_as(
            ids
        ) * mask
    return batch

"""Write what the demo starts from: a generated corpus, and a small BERT with random weights and its own vocabulary.

usage: python scripts/make_demo.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from transformers import BertConfig, BertModel
from transformers.utils.logging import disable_progress_bar

from compressbert.data.toy import write_toy_corpus
from compressbert.data.vocabulary import train_wordpiece

TRAIN_ROWS = 16_000
VALIDATION_ROWS = 2_000
SEED = 0


def main(folder: Path) -> None:
    """Write train.jsonl, validation.jsonl and model/ to ``folder``, unless they are there already."""
    if (folder / "model" / "config.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_toy_corpus(folder, train_rows=TRAIN_ROWS, validation_rows=VALIDATION_ROWS, seed=SEED)
    with (folder / "train.jsonl").open(encoding="utf-8") as lines:
        tokenizer = train_wordpiece(
            (json.loads(line)["sentence"] for line in lines), size=1000, max_length=128
        )
    disable_progress_bar()
    torch.manual_seed(SEED)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=128,
    )
    BertModel(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    print(f"wrote {TRAIN_ROWS:,} + {VALIDATION_ROWS:,} rows and a fresh 4-layer BERT to {folder}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))

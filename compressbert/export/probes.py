"""Inputs on which an exported file is compared with PyTorch: short and long, padded right and left, random tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compressbert.model.handle import Model

Inputs = dict[str, NDArray[np.int64]]

_LENGTHS: tuple[tuple[int, ...], ...] = ((7,), (16, 9, 4), (24, 20, 16, 12, 9, 6, 4, 3))


def probe_batches(model: Model, names: Sequence[str], *, longest: int, seed: int = 0) -> list[Inputs]:
    """Batches of random token ids.

    One text alone; two batches of uneven texts, one of them padded on the left; two texts of which one fills the
    model's positions. Most texts are padded, so that a mask missed anywhere moves most rows.

    Args:
        model: Gives the vocabulary and the padding token.
        names: The inputs to make: ``input_ids``, ``attention_mask`` and perhaps ``token_type_ids``.
        longest: Positions the model has.
        seed: Of the token ids.
    """
    config = model.network.config
    generator = np.random.default_rng(seed)
    vocabulary = int(model.network.get_input_embeddings().num_embeddings)
    pad = getattr(config, "pad_token_id", None) or 0
    types = int(getattr(config, "type_vocab_size", 0) or 1)
    batches = []
    for index, lengths in enumerate((*_LENGTHS, (longest, max(1, 2 * longest // 3)))):
        cut = [min(length, longest) for length in lengths]
        ids = np.full((len(cut), max(cut)), pad, np.int64)
        mask = np.zeros_like(ids)
        for row, length in enumerate(cut):
            where = slice(ids.shape[1] - length, None) if index == 1 and row == 1 else slice(0, length)
            drawn = generator.integers(0, vocabulary - 1, length)
            ids[row, where] = drawn + (drawn >= pad)  # any token but padding
            mask[row, where] = 1
        second = (np.arange(ids.shape[1]) % 5 > 2) * mask * (types > 1)
        made: Inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": second.astype(np.int64)}
        batches.append({name: made[name] for name in names})
    return batches

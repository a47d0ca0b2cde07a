"""Inputs on which an exported file is compared with PyTorch: short and long, full, padded right and left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressbert.model.handle import Model
from compressbert.model.local_layers import LocalFamily

Inputs = dict[str, NDArray[np.int64]]

_LENGTHS: tuple[tuple[int, ...], ...] = ((16, 9, 4), (24, 20, 16, 12, 9, 6, 4, 3), (10, 10))
MANY = max(map(len, _LENGTHS))  # texts of the largest batch
_LONGEST = 512  # of those that are known: longer ones would take minutes
_LONGEST_UNKNOWN = 128  # where a model's positions are not known: most have more


@dataclass(frozen=True)
class Limits:
    """What a model accepts: ids below ``vocabulary``, token types below ``types``, ``longest`` tokens.

    ``separator`` parts the texts of a pair, where a model looks for it itself. ``left``: texts may be padded on the
    left, too. Where tokens see a window only, a first token that is hidden may see nothing, and has no answer.
    """

    vocabulary: int
    pad_id: int
    types: int
    longest: int
    separator: int | None = None
    left: bool = True


def limits_of(model: Model) -> Limits:
    """Limits of a model of a known family, from its tables; of an own network, from its config."""
    if model.is_own:
        return limits_from_config(model.network.config.to_dict())
    embeddings, config = model.family.embeddings(model.network), model.network.config
    types = 1 if embeddings.token_type is None else int(embeddings.token_type.num_embeddings)  # type: ignore[arg-type]
    positions = int(embeddings.position.num_embeddings)  # type: ignore[arg-type]
    vocabulary = int(embeddings.word.num_embeddings)  # type: ignore[arg-type]
    longest = min(positions - embeddings.position_offset, _LONGEST)
    left = not isinstance(model.family, LocalFamily)
    return Limits(vocabulary, config.pad_token_id or 0, types, longest, left=left)


def limits_from_config(config: Mapping[str, Any]) -> Limits:
    """Limits of any model from its config's values; no longer than 128 tokens, which nearly all accept."""
    pad_id = config.get("pad_token_id") or 0
    positions = config.get("max_position_embeddings") or _LONGEST_UNKNOWN
    # Some families count positions from pad_id + 1; a pad_id beyond the positions is none of theirs.
    counted = pad_id + 1 if pad_id + 1 < positions // 2 else 0
    return Limits(
        vocabulary=config.get("vocab_size") or 100,
        pad_id=pad_id,
        types=config.get("type_vocab_size") or 1,
        longest=min(_LONGEST_UNKNOWN, positions - counted),
        separator=config.get("sep_token_id") if config.get("pairs") else None,
        left="sliding_attention" not in (config.get("layer_types") or ()),
    )


def probe_batches(limits: Limits, names: Sequence[str], *, seed: int = 0) -> list[Inputs]:
    """Batches of random token ids.

    Two batches of uneven texts, a text of one padded on the left; two texts of equal length, as full batches
    may run other nodes; and one text that fills the model's positions, or 512 of them. Most texts of most batches
    are padded: a mask missed anywhere moves most rows.

    Args:
        limits: What the model accepts.
        names: The inputs to make: ``input_ids``, ``attention_mask`` and perhaps ``token_type_ids``.
        seed: Of the token ids.
    """
    generator = np.random.default_rng(seed)
    batches = []
    for index, lengths in enumerate((*_LENGTHS, (limits.longest,))):
        cut = [min(length, limits.longest) for length in lengths]
        ids = np.full((len(cut), max(cut)), limits.pad_id, np.int64)
        mask = np.zeros_like(ids)
        for row, length in enumerate(cut):
            left = index == 0 and row == 1 and limits.left
            where = slice(ids.shape[1] - length, None) if left else slice(0, length)
            drawn = generator.integers(0, limits.vocabulary - 1, length)
            ids[row, where] = drawn + (drawn >= limits.pad_id)  # any token but padding
            if limits.separator is not None and row % 3:  # every third text is no pair
                ids[row, where][length // 2 :: max(length // 2 - 1, 1)] = limits.separator
            mask[row, where] = 1
        second = (np.arange(ids.shape[1]) % 5 > 2) & (mask == 1) & (limits.types > 1)
        made: Inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": second.astype(np.int64)}
        batches.append({name: made[name] for name in names})
    return batches

"""How token states become one vector per text, and how a folder says so.

The files are those of sentence-transformers (Reimers and Gurevych 2019, arXiv 1908.10084): ``modules.json`` lists
what follows the encoder, ``1_Pooling/config.json`` how tokens are pooled. So its loaders open what is written here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compressbert.config.schema import PoolingMode
from compressbert.errors import InputError
from compressbert.model.source import read_json

MODULES = "modules.json"
_FOLDER = "1_Pooling"
_MODES: dict[PoolingMode, str] = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens"}
_OTHERS = ("max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
_HINT = "Say how with data.embedding.pooling (and normalize), or remove modules.json."


@dataclass(frozen=True)
class Pooling:
    """One vector per text from the states of its tokens.

    Attributes:
        mode: The mean over tokens that are not padding, or the first token.
        normalize: Scale to length 1.
    """

    mode: PoolingMode
    normalize: bool

    def __call__(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """States (B, S, H) and mask (B, S) to vectors (B, H), float32."""
        states = hidden.float()
        if self.mode == "cls":
            pooled = states[:, 0]
        else:
            weights = attention_mask.to(states.dtype).unsqueeze(-1)  # (B, S, 1)
            pooled = (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)
        return torch.nn.functional.normalize(pooled, dim=-1) if self.normalize else pooled


def read(folder: Path) -> Pooling | None:
    """What a folder says; None where it says nothing.

    Raises:
        InputError: It asks for something other than mean or first token with or without normalising.
    """
    file = folder / MODULES
    if not file.is_file():
        return None
    try:
        modules = json.loads(file.read_text(encoding="utf-8"))
        kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
        places = [str(module.get("path", "")) for module in modules]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{file} is damaged: {error!r}.", hint=_HINT) from error
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise InputError(
            f"{file} lists {', '.join(kinds) or 'nothing'}; supported are Transformer, Pooling and Normalize.",
            hint="Choose a model that pools and normalises only.",
        )
    config = read_json(folder / places[1] / "config.json", "how tokens are pooled")
    return Pooling(_mode(config, folder / places[1]), kinds[-1] == "Normalize")


def _mode(config: dict[str, Any], folder: Path) -> PoolingMode:
    chosen = [mode for mode, key in _MODES.items() if config.get(key) or config.get("pooling_mode") == mode]
    others = [name for name in _OTHERS if config.get(f"pooling_mode_{name}")]
    if len(chosen) != 1 or others:
        raise InputError(
            f"{folder}/config.json pools by {', '.join((*chosen, *others)) or 'an unknown way'}; supported is "
            "the mean over tokens or the first token.",
            hint=_HINT,
        )
    return chosen[0]


def write(pooling: Pooling, folder: Path, *, width: int) -> None:
    """Write ``modules.json`` and ``1_Pooling/config.json``; ``width`` is that of the vectors."""
    parts = [("Transformer", ""), ("Pooling", _FOLDER)] + [("Normalize", "2_Normalize")] * pooling.normalize
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(parts)
    ]
    config: dict[str, Any] = {"word_embedding_dimension": width}
    config |= {key: mode == pooling.mode for mode, key in _MODES.items()}
    config |= {f"pooling_mode_{name}": False for name in _OTHERS}
    (folder / _FOLDER).mkdir(parents=True, exist_ok=True)
    for file, value in ((folder / _FOLDER / "config.json", config), (folder / MODULES, modules)):
        file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")

"""Settings from the command line, laid over a document: ``--set key=value`` and options like ``--model``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compressbert.config.document import Document
from compressbert.config.problems import KeyPath, Place, dotted
from compressbert.config.yaml_reader import read_value
from compressbert.errors import ConfigError


def apply_override(document: Document, text: str) -> None:
    """Set one key from ``key.path=value``, the value typed as in YAML; a number in the path is an index.

    Raises:
        ConfigError: No ``=``, an empty key, an index that is not there, or a path through a plain value.
    """
    key, equals, value = text.partition("=")
    source = f"--set {text}"
    if not equals or not all(key.split(".")):
        raise ConfigError(f"{source}: expected key.path=value, such as --set train.epochs=2")
    set_value(document, key, read_value(value, source), source)


def set_value(document: Document, key: str, value: Any, source: str) -> None:
    """Set ``key`` (dotted) to ``value``, making the mappings on the way; ``source`` names it in messages.

    Raises:
        ConfigError: An index that is not in its list, or a path through a plain value.
    """
    holder: Any = document.data
    path: KeyPath = ()
    parts = key.split(".")
    for part in parts[:-1]:
        step = _step(holder, part, path, source)
        path = (*path, step)
        if (
            isinstance(holder, dict) and holder.get(part) is None
        ):  # absent, or written as `train:` with nothing below
            holder[part] = {}
        holder = holder[step]
    step = _step(holder, parts[-1], path, source)
    holder[step] = value
    path = (*path, step)
    for old in [known for known in document.places if known[: len(path)] == path]:
        del document.places[old]
    for length in range(1, len(path) + 1):
        document.places.setdefault(path[:length], Place(source))


def _step(holder: Any, part: str, path: KeyPath, source: str) -> str | int:
    if isinstance(holder, dict):
        return part
    if isinstance(holder, list):
        if part.isdecimal() and int(part) < len(holder):
            return int(part)
        raise ConfigError(
            f"{source}: {dotted(path)} is a list of {len(holder)}; expected an index below that, found {part}"
        )
    raise ConfigError(f"{source}: {dotted(path)} is {holder!r}, which has no key {part!r} below it")


def apply_options(document: Document, options: Mapping[str, tuple[str, Any]]) -> None:
    """Lay options over the document: ``{"--model": ("model.path", "runs/teacher")}``; None is left out."""
    for option, (key, value) in options.items():
        if value is not None:
            set_value(document, key, value, option)

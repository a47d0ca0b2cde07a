"""Settings as written: a plain mapping, and where each key stands (a line of a file, or an option)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from compressbert.config.problems import KeyPath, Place, Problem, dotted


@dataclass
class Document:
    """A mapping read from YAML and options, with the place of every key path."""

    data: dict[str, Any]
    places: dict[KeyPath, Place]  # of each key (mappings) or item (lists); () is the document
    problems: list[Problem] = field(default_factory=list)  # found while reading, reported with the others

    def place(self, path: KeyPath) -> Place:
        """Where ``path`` was written, or the nearest part above it that was."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return self.places.get((), Place("command line"))

    def place_of(self, problem: Problem) -> Place:
        """Where the problem was written."""
        return problem.place or self.place(problem.path)

    def line(self, problem: Problem) -> str:
        """``file:line:column: key.path: what is wrong``."""
        key = f"{dotted(problem.path)}: " if problem.path else ""
        return f"{self.place_of(problem)}: {key}{problem.text}"

    def lines(self, problems: Iterable[Problem]) -> list[str]:
        """One line per problem, in the order of the file."""

        def order(problem: Problem) -> tuple[str, int, int]:
            place = self.place_of(problem)
            return place.source, place.line or 0, place.column or 0

        return list(dict.fromkeys(self.line(problem) for problem in sorted(problems, key=order)))


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` laid on ``base``, mappings key by key; lists and plain values replace.

    A ``method`` section that names another method replaces the base's whole: its settings mean nothing there.
    """
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping) and not _other_method(key, below, value):
            result[key] = merged(below, value)
        else:
            result[key] = value
    return result


def _other_method(key: str, below: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    return key == "method" and "name" in value and value["name"] != below.get("name")


def merged_documents(base: Document, over: Document) -> Document:
    """Two documents as one, ``over`` winning; every key keeps the place it came from."""
    data = merged(base.data, over.data)
    places = {path: place for path, place in base.places.items() if _reaches(data, path)} | over.places
    return Document(data, places, [*base.problems, *over.problems])


def _reaches(data: Any, path: KeyPath) -> bool:
    for part in path:
        if isinstance(data, dict):
            found = part in data
        else:
            found = isinstance(data, list) and isinstance(part, int) and part < len(data)
        if not found:
            return False
        data = data[part]
    return True

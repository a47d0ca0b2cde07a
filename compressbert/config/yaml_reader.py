"""Reads one YAML text into a `Document`: data only, YAML 1.2 scalars, every key's place, bounded work.

PyYAML follows YAML 1.1: it takes ``no`` for false, ``2e-5`` for text and ``12:30`` for a number. Here true
and false are the only booleans and every decimal notation is a number. Tags that build objects are refused.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from compressbert.config.document import Document
from compressbert.config.problems import KeyPath, Place, Problem
from compressbert.errors import ConfigError

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
MAX_VALUES = 20_000  # after aliases are followed, so that a few lines cannot stand for billions

_TAG = "tag:yaml.org,2002:"
_SCALARS = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.nan|\.NaN",
    "merge": r"<<",
}


class _Loader(yaml.SafeLoader):
    """Composes nodes with YAML 1.2 scalars; a bound on nesting is checked while the text is scanned."""

    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012
    _depth = 0
    _nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        self._nodes += 1
        if self._depth > MAX_DEPTH or self._nodes > 2 * MAX_VALUES:  # a key is a node of its own
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            problem = (
                f"nested deeper than {MAX_DEPTH} levels" if self._depth > MAX_DEPTH else "too many values"
            )
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


for _name, _pattern in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), None)


def read_yaml(content: bytes, source: str) -> Document:
    """The document in ``content``; ``source`` names it in messages.

    Raises:
        ConfigError: Not UTF-8, not YAML, empty, not a mapping, or too large or deep to be settings.
    """
    node, text = _compose(content, source)
    if node is None:
        raise ConfigError(
            f"{source}: empty; expected settings as YAML", hint="`compressbert init COMMAND` writes a start."
        )
    builder = _Builder(source)
    data = builder.value(node, ())
    if not isinstance(data, dict):
        what = "a list" if isinstance(data, list) else f"{text.strip()[:40]!r}"
        raise ConfigError(
            f"{source}:1:1: expected a mapping of settings (key: value) at the top, found {what}"
        )
    return Document(data, builder.places, builder.problems)


def read_value(text: str, source: str) -> Any:
    """One value as YAML types it, for `--set`.

    Raises:
        ConfigError: ``text`` is not YAML.
    """
    node, _ = _compose(text.encode(), source)
    if node is None:
        return None
    builder = _Builder(source)
    value = builder.value(node, ())
    if builder.problems:
        raise ConfigError(f"{source}: {builder.problems[0].text}")
    return value


def _compose(content: bytes, source: str) -> tuple[yaml.Node | None, str]:
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{source}: larger than {MAX_BYTES:,} bytes; expected settings, not data")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _line_column(content[: error.start].decode("utf-8", "replace"))
        byte = content[error.start]
        raise ConfigError(f"{source}:{line}:{column}: expected UTF-8 text, found byte 0x{byte:02x}") from None
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_node(), text
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:
        line, column = _line_column(text[: error.position])
        found = f"{error.character!r}" if isinstance(error.character, str) else f"U+{error.character:04X}"
        raise ConfigError(f"{source}:{line}:{column}: not YAML: character {found} is not allowed") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        context = f" {error.context}" if error.context else ""
        raise ConfigError(f"{source}{at}: not YAML: {error.problem}{context}") from None


def _line_column(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - before.rfind("\n")


class _Builder:
    """Turns nodes into plain values, noting places and collecting problems."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.places: dict[KeyPath, Place] = {(): Place(source)}
        self.problems: list[Problem] = []
        self._values = 0

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self._values += 1
        if self._values > MAX_VALUES or len(path) > MAX_DEPTH:
            at = self._place(node)
            raise ConfigError(
                f"{at}: more than {MAX_VALUES:,} values or {MAX_DEPTH} levels once aliases are followed"
            )
        if isinstance(node, yaml.MappingNode):
            self._check_tag(node, path, "map")
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            self._check_tag(node, path, "seq")
            return [self._item(child, (*path, index)) for index, child in enumerate(node.value)]
        return self._scalar(node, path)

    def _item(self, node: yaml.Node, path: KeyPath) -> Any:
        self.places[path] = self._place(node)
        return self.value(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged_in: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                merged_in |= self._merged_in(value_node, path)
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(path, key_node, "a key must be plain text")
                continue
            key = str(key_node.value)
            inner = (*path, key)
            if key in result:
                self._problem(inner, key_node, f"written twice (first at {self.places[inner]})")
                continue
            self.places[inner] = self._place(key_node)
            result[key] = self.value(value_node, inner)
        return merged_in | result

    def _merged_in(self, node: yaml.Node, path: KeyPath) -> dict[str, Any]:
        """Value of ``<<``: one mapping, or several of which the first wins."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        result: dict[str, Any] = {}
        for source in sources:
            value = self.value(source, path)
            if not isinstance(value, dict):
                self._problem(path, source, "<< takes a mapping or a list of mappings")
                continue
            result = value | result
        return result

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        text = str(node.value)
        kind = node.tag.removeprefix(_TAG)
        if kind in ("str", "merge"):
            return text
        if kind not in _SCALARS or not re.fullmatch(_SCALARS[kind], text):
            self._check_tag(node, path, "")
            return None
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        return _integer(text) if kind == "int" else _float(text)

    def _check_tag(self, node: yaml.Node, path: KeyPath, expected: str) -> None:
        if node.tag != _TAG + expected:
            tag = node.tag.replace(_TAG, "!!")
            self._problem(
                path, node, f"the tag {tag} is refused: settings are plain data and never build objects"
            )

    def _problem(self, path: KeyPath, node: yaml.Node, text: str) -> None:
        self.problems.append(Problem(path, text, self._place(node)))

    def _place(self, node: yaml.Node) -> Place:
        return Place(self.source, node.start_mark.line + 1, node.start_mark.column + 1)


def _integer(text: str) -> int:
    return int(text, 0) if text[:2] in ("0x", "0o") else int(text)


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))

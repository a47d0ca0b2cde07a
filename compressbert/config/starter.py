"""Writes a commented starter config from a schema: every setting with its description and default.

Settings that may be left out stand behind a ``#`` without a space; take it away to set them.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from compressbert.config.problems import model_in

_WIDTH = 100
_LAST = ("seed", "output")  # what every command has comes after what is its own


@dataclass(frozen=True)
class Starter:
    """What to write besides the schema.

    Attributes:
        examples: Dotted key to a value to fill in; such a key stands uncommented. A text that starts with a
            line break is written as it is.
        defaults: Dotted key to a default that is not the schema's.
        method: The schema of a method's settings, to stand below ``method:``.
    """

    examples: Mapping[str, Any]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    method: type[BaseModel] | None = None

    def text(self, schema: type[BaseModel], title: str) -> str:
        """YAML that holds every setting of ``schema``."""
        lines = [*_prose(title, ""), *_prose("Remove the # of a setting to change its default.", "")]
        for name in sorted(schema.model_fields, key=lambda name: name in _LAST):
            found = schema.model_fields[name]
            lines += ["", *self._setting(found.alias or name, found, "")]
        return "\n".join(lines) + "\n"

    def _setting(self, key: str, found: FieldInfo, parent: str, mark: str = "") -> Iterator[str]:
        path = f"{parent}{key}"
        indent = "  " * parent.count(".")
        live = path in self.examples or any(example.startswith(f"{path}.") for example in self.examples)
        mark = mark or ("" if live else "#")
        yield from _prose(found.description or "", indent)
        inner = model_in(found.annotation)
        if path in self.examples or inner is None or not (live or _is_section(found)):
            value = self.examples.get(path, self.defaults.get(path, _default(found)))
            yield f"{indent}{mark}{key}:{_value(value)}"
            return
        yield f"{indent}{mark}{key}:"
        schemas = [inner, self.method] if key == "method" else [inner]
        for schema in schemas:
            for name, child in schema.model_fields.items() if schema else ():
                yield from self._setting(child.alias or name, child, f"{path}.", mark)


def _is_section(found: FieldInfo) -> bool:
    return not found.is_required() and found.default_factory is not None


def _prose(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _default(found: FieldInfo) -> Any:
    if found.is_required():
        return None
    return to_jsonable_python(found.get_default(call_default_factory=True, validated_data={}))


def _value(value: Any) -> str:
    """A value as YAML on one line; JSON is YAML, and plain words need no quotes."""
    if isinstance(value, str) and value.startswith("\n"):
        return value
    if isinstance(value, str) and value and all(letter.isalnum() or letter in "/._-" for letter in value):
        return f" {value}"
    return f" {json.dumps(value, ensure_ascii=False)}"

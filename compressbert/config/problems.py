"""What is wrong with settings, in words: where, what was found, what was expected, what was meant."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

KeyPath = tuple[str | int, ...]

_LONGEST_VALUE = 60  # characters of a found value shown in a message


@dataclass(frozen=True)
class Place:
    """Where something was written: ``train.yaml:3:5``, or an option of the command line."""

    source: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong at one key path."""

    path: KeyPath
    text: str
    place: Place | None = None  # where it is written, when that is not where the key path first stands


def dotted(path: KeyPath) -> str:
    """``steps.0.prune`` for ``("steps", 0, "prune")``: the form `--set` takes."""
    return ".".join(str(part) for part in path)


def suggestion(word: object, choices: Iterable[object]) -> str:
    """`` (did you mean 'x'?)`` when one of the choices is close to ``word``, else nothing."""
    close = difflib.get_close_matches(str(word), [str(choice) for choice in choices], n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""


def shown(value: object) -> str:
    """The value as a person would write it, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def unknown_key(key: object, known: Iterable[str]) -> str:
    """Text for a key that the schema does not have."""
    names = list(known)
    return "unknown key" + (suggestion(key, names) or f"; known here: {', '.join(names)}")


def problems_of(error: ValidationError, schema: type[BaseModel], prefix: KeyPath = ()) -> list[Problem]:
    """Every problem of a pydantic error, its paths put under ``prefix``."""
    problems = []
    for detail in error.errors(include_url=False):
        location: KeyPath = detail["loc"]
        problems.append(Problem((*prefix, *location), _text(detail, schema, location)))
    return problems


def _text(detail: Any, schema: type[BaseModel], location: KeyPath) -> str:
    kind, found = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        return unknown_key(location[-1], key_names(_schema_at(schema, location[:-1])))
    if kind == "missing":
        return _missing(_schema_at(schema, location[:-1]), location)
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"should be a mapping of keys, found {shown(found)}"
    message: str = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    message = message[:1].lower() + message[1:]
    if kind == "literal_error":
        expected = [value for value in _literals(_annotation_at(schema, location)) if isinstance(value, str)]
        return f"{message}, found {shown(found)}{suggestion(found, expected)}"
    if kind == "value_error":  # our own validators name what they found
        return message
    return f"{message}, found {shown(found)}"


def _missing(owner: type[BaseModel] | None, location: KeyPath) -> str:
    for name, field in owner.model_fields.items() if owner else ():
        if (field.alias or name) == location[-1] and field.description:
            return f"is required: {field.description[:1].lower()}{field.description[1:].rstrip('.')}"
    return "is required"


def key_names(schema: type[BaseModel] | None) -> list[str]:
    """The keys a schema takes, as written in YAML."""
    return [field.alias or name for name, field in schema.model_fields.items()] if schema else []


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model in ``Model``, ``Model | None``, ``Annotated[Model, …]`` or ``tuple[Model, …]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, Annotated, tuple, list):
        for inner in get_args(annotation):
            if (model := model_in(inner)) is not None:
                return model
    return None


def _annotation_at(schema: type[BaseModel], location: KeyPath) -> Any:
    annotation: Any = schema
    for part in location:
        if isinstance(part, int):  # a list item: the model inside is found through the list's annotation
            continue
        if get_origin(annotation) is dict:  # keys of the user's own
            annotation = get_args(annotation)[1]
            continue
        owner = model_in(annotation)
        fields = {field.alias or name: field for name, field in owner.model_fields.items()} if owner else {}
        if part not in fields:
            return None
        annotation = fields[part].annotation
    return annotation


def _schema_at(schema: type[BaseModel], location: KeyPath) -> type[BaseModel] | None:
    return model_in(_annotation_at(schema, location))


def _literals(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(value for inner in get_args(annotation) for value in _literals(inner))

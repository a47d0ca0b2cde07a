"""From a YAML file and the command line to checked settings, with every problem reported at once.

Reading (`load_document`) keeps the line of each key; checking (`validate`, `validate_pipeline`) turns what is
found into ``file:line:column: key.path: what is wrong (did you mean 'x'?)``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from compressbert.config.document import Document, merged_documents
from compressbert.config.overrides import apply_options, apply_override
from compressbert.config.problems import KeyPath, Place, Problem, problems_of
from compressbert.config.schema import MethodSettings, PipelineConfig
from compressbert.config.steps import read_steps
from compressbert.config.yaml_reader import MAX_BYTES, read_yaml
from compressbert.errors import ConfigError

Schema = TypeVar("Schema", bound=BaseModel)
MethodSchema = Callable[[str], type[BaseModel]]  # raises ConfigError for a name that is no method
StepMethodSchema = Callable[[str, str], type[BaseModel]]  # the same, given the step's kind and the name

STDIN: Literal["-"] = "-"
_BASE = "base"


def load_document(
    source: Path | Literal["-"] | None,
    overrides: Sequence[str] = (),
    options: Mapping[str, tuple[str, Any]] | None = None,
) -> Document:
    """Settings as written: the file (with its ``base:``), then options, then ``--set`` overrides.

    Args:
        source: A YAML file, ``-`` for standard input, or None for no file.
        overrides: ``key.path=value`` texts, later ones winning.
        options: ``{"--model": ("model.path", value)}``; None values are left out.

    Raises:
        ConfigError: The file is missing or is not a mapping in YAML, or an override does not fit.
    """
    if source is None:
        document = Document({}, {(): Place("command line")})
    elif source == STDIN:
        content = sys.stdin.buffer.read(MAX_BYTES + 1)
        document = _with_base(read_yaml(content, "<stdin>"), Path(), ())
    else:
        document = _read_file(Path(source), ())
    apply_options(document, options or {})
    for text in overrides:
        apply_override(document, text)
    return document


def _read_file(path: Path, inherited_by: tuple[Path, ...]) -> Document:
    if path.is_dir():
        raise ConfigError(f"{path}: expected a YAML file, found a folder")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        wanted = f", named as base by {inherited_by[-1]}" if inherited_by else ""
        raise ConfigError(
            f"{path}: no such config file{wanted}", hint="`compressbert init COMMAND` writes one."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    return _with_base(read_yaml(content, str(path)), path, inherited_by)


def _with_base(document: Document, path: Path, inherited_by: tuple[Path, ...]) -> Document:
    base = document.data.pop(_BASE, None)
    if base is None:
        return document
    place = document.place((_BASE,))
    if not isinstance(base, str):
        raise ConfigError(f"{place}: base: expected the name of a YAML file, found {base!r}")
    chain = (*inherited_by, path)
    base_path = path.parent / base
    if base_path.resolve() in [known.resolve() for known in chain]:
        circle = " → ".join(str(known) for known in (*chain, base_path))
        raise ConfigError(f"{place}: base: a file cannot inherit from itself: {circle}")
    return merged_documents(_read_file(base_path, chain), document)


def validate(
    document: Document, schema: type[Schema], *, method_schema: MethodSchema | None = None
) -> Schema:
    """The document as an instance of ``schema``; ``method_schema(name)`` checks its ``method`` section.

    Raises:
        ConfigError: Everything that is wrong, one line per problem.
    """
    problems = list(document.problems)
    result = _parse(document.data, schema, problems)
    if method_schema is not None:
        problems += method_problems(document.data.get("method"), method_schema, ("method",))
    return _checked(document, result, problems)


def validate_pipeline(document: Document, *, method_schema: StepMethodSchema) -> PipelineConfig:
    """The document as a pipeline, each step's settings and its method's settings checked in the same pass.

    Raises:
        ConfigError: Everything that is wrong, one line per problem.
    """
    problems = list(document.problems)
    result = _parse(document.data, PipelineConfig, problems)
    raw = document.data.get("steps")
    if isinstance(raw, list):
        problems = [
            problem for problem in problems if problem.path[:1] != ("steps",) or len(problem.path) == 1
        ]
        problems += read_steps(raw)[1]
        for index, entry in enumerate(raw):
            for kind, settings in entry.items() if isinstance(entry, dict) else ():
                if isinstance(settings, dict):
                    path = ("steps", index, kind, "method")
                    problems += method_problems(settings.get("method"), partial(method_schema, kind), path)
    return _checked(document, result, problems)


def method_problems(section: Any, method_schema: MethodSchema, path: KeyPath) -> list[Problem]:
    """What is wrong with a ``method`` section: an unknown name, or settings that method does not take."""
    if not isinstance(section, dict) or not isinstance(section.get("name"), str):
        return []  # its absence or shape is the outer schema's business
    try:
        schema = method_schema(section["name"])
    except ConfigError as error:
        return [Problem((*path, "name"), error.message)]
    settings = {key: value for key, value in section.items() if key != "name"}
    try:
        schema.model_validate(settings)
    except ValidationError as error:
        return problems_of(error, schema, path)
    return []


def parse_method(method: MethodSettings, schema: type[Schema]) -> Schema:
    """A method's raw settings as its own ``Config``, for callers that have no document.

    Raises:
        ConfigError: Everything that is wrong, one line per problem.
    """
    document = Document({"method": {"name": method.name, **method.settings}}, {(): Place("settings")})
    problems: list[Problem] = []
    try:
        return schema.model_validate(method.settings)
    except ValidationError as error:
        problems = problems_of(error, schema, ("method",))
    raise _error(document, problems)


def _parse(data: Mapping[str, Any], schema: type[Schema], problems: list[Problem]) -> Schema | None:
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        problems += problems_of(error, schema)
        return None


def _checked(document: Document, result: Schema | None, problems: list[Problem]) -> Schema:
    if problems or result is None:
        raise _error(document, problems)
    return result


def _error(document: Document, problems: list[Problem]) -> ConfigError:
    return ConfigError("\n".join(document.lines(problems)))

"""Finds the methods by reading syntax trees: a file's name is the method's, its folder is the family.

Nothing of a method runs until `load_method`, so listing them costs milliseconds and needs no torch.
"""

from __future__ import annotations

import ast
import importlib
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, create_model

from compressbert.config.problems import suggestion
from compressbert.errors import ConfigError

if TYPE_CHECKING:  # torch comes with it
    from compressbert.methods.base import MethodConfig

FOLDER = Path(__file__).resolve().parent
_CONSTANTS = ("NEEDS", "SURVEY", "TRAIN_DEFAULTS")
_PAPER = re.compile(r"\b(?:arXiv|ACL|aclanthology|doi)\b", re.IGNORECASE)


@dataclass(frozen=True)
class MethodInfo:
    """What a method's file says about it.

    Attributes:
        family: distill, prune or quantize; the command that runs it.
        needs: What must be given (``NEEDS``): data, teacher, labels.
        survey: The method's own row of the survey's Table 1, as its authors gave it; None without a row.
        train_defaults: Training settings that differ from the common defaults.
        settings: Names of the method's settings.
    """

    name: str
    family: str
    summary: str
    paper: str
    needs: tuple[str, ...]
    survey: dict[str, Any] | None
    path: Path
    train_defaults: dict[str, Any] = field(default_factory=dict)
    settings: tuple[str, ...] = ()


@cache
def list_methods() -> tuple[MethodInfo, ...]:
    """Every method, by family and name.

    Raises:
        ConfigError: A method's file cannot be read as one.
    """
    files = sorted(FOLDER.glob("*/*.py"))
    return tuple(read_method(file) for file in files if not file.name.startswith("_"))


def read_method(file: Path) -> MethodInfo:
    """What one method's file says, from its syntax tree.

    Raises:
        ConfigError: It is not Python, or lacks a docstring, ``Config``, ``compress`` or a plain constant.
    """
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise ConfigError(f"method file {file} is not valid Python: {error}") from error
    docstring = ast.get_docstring(tree)
    if not docstring:
        raise ConfigError(f"method file {file} has no docstring; its first line is the summary")
    defined = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    if missing := {"Config", "compress"} - defined.keys():
        raise ConfigError(f"method file {file} defines no {' and no '.join(sorted(missing))}")
    constants = _constants(tree, file)
    return MethodInfo(
        name=file.stem,
        family=file.parent.name,
        summary=docstring.splitlines()[0].strip(),
        paper=_paper(docstring),
        needs=tuple(constants.get("NEEDS", ())),
        survey=constants.get("SURVEY"),
        path=file,
        train_defaults=dict(constants.get("TRAIN_DEFAULTS", {})),
        settings=_settings_of(tree, "Config"),
    )


def find_method(name: str, family: str | None = None) -> MethodInfo:
    """The method of that name; of that family, when one is given.

    Raises:
        ConfigError: There is none; the message suggests the closest name or the family it belongs to.
    """
    methods = list_methods()
    named = [info for info in methods if info.name == name]
    for info in named:
        if family in (None, info.family):
            return info
    if named:
        raise ConfigError(f"'{name}' belongs to {named[0].family}, not to {family}")
    offered = [info.name for info in methods if family in (None, info.family)]
    close = suggestion(name, offered) or f"; known: {', '.join(offered) or 'none'}"
    kind = f"{family} method" if family else "method"
    raise ConfigError(f"unknown {kind} '{name}'{close}", hint="`compressbert methods` lists them.")


def settings_outline(info: MethodInfo) -> type[BaseModel]:
    """A schema that knows the names of the method's settings and takes any value; imports nothing of it.

    With it a misspelt setting is found in milliseconds. `config_class` checks the values too.
    """
    fields: dict[str, Any] = dict.fromkeys(info.settings, (Any, None))
    return create_model(f"{info.name}_outline", __config__=ConfigDict(extra="forbid"), **fields)


def load_method(info: MethodInfo) -> ModuleType:
    """Import the method's module: ``Config`` and ``compress``."""
    return importlib.import_module(f"compressbert.methods.{info.family}.{info.name}")


def config_class(info: MethodInfo) -> type[MethodConfig]:
    """The schema of the method's settings."""
    schema: type[MethodConfig] = load_method(info).Config
    return schema


def _paper(docstring: str) -> str:
    """The first reference: the line that names an archive, without a leading ``Paper:``."""
    line = next((line.strip() for line in docstring.splitlines() if _PAPER.search(line)), "")
    return line.removeprefix("Paper:").strip()


def _settings_of(tree: ast.Module, name: str) -> tuple[str, ...]:
    """Names of the settings a class declares and of those it has from classes of modules beside `base.py`."""
    node = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    inherited = [
        setting
        for base in node.bases
        if isinstance(base, ast.Name) and (file := _home_of(tree, base.id)) is not None
        for setting in _settings_of(ast.parse(file.read_text(encoding="utf-8")), base.id)
    ]
    own = [
        item
        for item in node.body
        if isinstance(item, ast.AnnAssign)
        and isinstance(item.target, ast.Name)
        and not ast.unparse(item.annotation).startswith("ClassVar")
    ]
    return tuple(
        dict.fromkeys([*inherited, *(item.target.id for item in own if isinstance(item.target, ast.Name))])
    )


def _home_of(tree: ast.Module, name: str) -> Path | None:
    """The file beside `base.py` that ``name`` is imported from."""
    for node in tree.body:
        module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
        if module.startswith("compressbert.methods.") and name in {alias.name for alias in node.names}:  # type: ignore[attr-defined]
            file = FOLDER / f"{module.rpartition('.')[2]}.py"
            return file if file.is_file() else None
    return None


def _constants(tree: ast.Module, file: Path) -> dict[str, Any]:
    values = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            target, value = node.target, node.value
        else:
            continue
        if isinstance(target, ast.Name) and target.id in _CONSTANTS:
            try:
                values[target.id] = ast.literal_eval(value)
            except ValueError as error:
                raise ConfigError(
                    f"method file {file}: {target.id} must be a plain literal: {error}"
                ) from error
    return values

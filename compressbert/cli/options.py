"""The options commands share, and the wrapper that gives every command the ones about output."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from compressbert.cli.console import Screen

# typer evaluates these at run time; Optional is what it documents


def method_names(context: typer.Context, incomplete: str) -> list[str]:
    """Names of methods that begin so; on a family's own command its methods only."""
    from compressbert.methods.registry import list_methods

    found = [info for info in list_methods() if info.name.startswith(incomplete)]
    own = [info.name for info in found if info.family == context.info_name]
    return own or [info.name for info in found]


Config = Annotated[
    str | None, typer.Argument(metavar="CONFIG.yaml", help="Settings as YAML; - for standard input.")
]
NeededConfig = Annotated[
    str, typer.Argument(metavar="CONFIG.yaml", help="Settings as YAML; - for standard input.")
]
Model = Annotated[str | None, typer.Option(metavar="DIR", help="Model folder, or a name on the hub.")]
AnyModel = Annotated[
    str | None,
    typer.Option("--model", metavar="DIR_OR_ONNX", help="Model folder, export folder or .onnx file."),
]
Method = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Method; `compressbert methods` lists them.", autocompletion=method_names
    ),
]
Data = Annotated[str | None, typer.Option(metavar="FILE", help="Data file (or hub name) to work on.")]
Validation = Annotated[str | None, typer.Option(metavar="FILE", help="Data file to score the result on.")]
ColumnNames = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES", help="Columns of the data, as text=sentence,label=label (text_pair for pairs)."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a setting, such as train.epochs=2. Repeatable."
    ),
]
Output = Annotated[str | None, typer.Option("--output", "-o", metavar="DIR", help="Folder to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output folder if it exists.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done and touch nothing.")]
Junit = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the gates as JUnit XML, one case each.")
]
Baseline = Annotated[
    str | None,
    typer.Option("--baseline", metavar="DIR_OR_ONNX", help="Compare with this folder or .onnx file."),
]
Seeds = Annotated[
    int | None,
    typer.Option(metavar="N", help="Do the work N times, with a seed each; the first one's model is kept."),
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Model folder, export folder or .onnx file.")]

_COMMON: dict[str, tuple[Any, str, str]] = {
    "as_json": (bool, "--json", "Print one JSON document on stdout and nothing else there."),
    "verbose": (bool, "--verbose/-v", "Show the resolved settings before work."),
    "quiet": (bool, "--quiet/-q", "No progress and no notes."),
    "debug": (bool, "--debug", "Show the traceback of a failure."),
}


def command(function: Callable[..., int | None]) -> Callable[..., int]:
    """``function(screen, …)`` as a typer command; ``screen`` is made from the options every command has."""

    def run(**arguments: Any) -> int:
        common = {name: arguments.pop(name) for name in _COMMON}
        screen = Screen(as_json=common["as_json"], quiet=common["quiet"], verbose=common["verbose"])
        return function(screen, **arguments) or 0

    parameters = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    for name, (kind, flags, text) in _COMMON.items():
        option = typer.Option(*flags.split("/"), help=text)
        parameters.append(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[kind, option]
            )
        )
    keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    run.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in keyword}
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    return run

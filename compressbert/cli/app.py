"""The command line: `compressbert COMMAND …`. Nothing heavy is imported until a command does its work."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from compressbert import __version__
from compressbert.cli.benchmark import benchmark
from compressbert.cli.boundary import guarded
from compressbert.cli.check import check
from compressbert.cli.compress import compress_command
from compressbert.cli.evaluate import evaluate
from compressbert.cli.export import export
from compressbert.cli.finetune import finetune
from compressbert.cli.init import init
from compressbert.cli.methods import methods
from compressbert.cli.options import command
from compressbert.cli.report import report
from compressbert.cli.run import run
from compressbert.cli.schema import schema
from compressbert.cli.verify import verify

# Libraries draw their own bars and print advice; progress is ours to show.
_QUIET_LIBRARIES = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}


class Guarded(TyperGroup):
    """The group of commands behind the one boundary that turns failures into a message and an exit code."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options before a command, their flags off unless given.

        Some of typer's own flags start as None, and coercing None imports pydantic: 0.15 s more per `--help`.
        """
        parameters = super().get_params(ctx)
        for parameter in parameters:
            if getattr(parameter, "is_flag", False) and parameter.default is None:
                parameter.default = False
        return parameters

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an interruption passes typer by, which would end without a word."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            raise typer.Abort from stop

    def main(self, args: Sequence[str] | None = None, *positional: Any, **extra: Any) -> Any:
        """Run the command line and exit with its code."""
        arguments = list(sys.argv[1:] if args is None else args) or ["--help"]
        extra["standalone_mode"] = False
        run_typer = super().main
        sys.exit(guarded(lambda: run_typer(arguments, *positional, **extra) or 0, arguments))


app = typer.Typer(
    name="compressbert",
    cls=Guarded,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"compressbert {__version__}")
        raise typer.Exit


@app.callback()
def _compressbert(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Make BERT-family encoders small and fast, and prove what that cost.

    Exit codes: 0 done, 1 a gate failed, 2 usage or settings, 3 an input is missing or unusable,
    4 the work failed, 130 interrupted (the same command resumes).
    """


for _function in (
    finetune,
    compress_command("distill"),
    compress_command("prune"),
    compress_command("quantize"),
    export,
    evaluate,
    benchmark,
    report,
    run,
    verify,
    methods,
    schema,
    init,
    check,
):
    app.command(_function.__name__)(command(_function))


def main() -> None:
    """Entry point of the console script."""
    for variable, value in _QUIET_LIBRARIES.items():
        os.environ.setdefault(variable, value)
    app(prog_name="compressbert")

"""`compressbert distill`, `prune` and `quantize`: alike but for their methods and what --data names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from compressbert.cli.console import Screen
from compressbert.cli.options import (
    ColumnNames,
    Config,
    Data,
    DryRun,
    Method,
    Model,
    Output,
    Overwrite,
    Seeds,
    Set,
    Validation,
)

Kind = Literal["distill", "prune", "quantize"]

_HELP: dict[Kind, str] = {
    "distill": """Train a smaller student from a teacher (--model).

    Example: compressbert distill --model runs/teacher --method distilbert --data train.csv -o runs/student
    """,
    "prune": """Remove heads, layers, neurons or width from a model.

    Example: compressbert prune --model runs/teacher --method michel --data train.csv -o runs/pruned
    """,
    "quantize": """Store a model's weights as 8-bit integers.

    Example: compressbert quantize --model runs/teacher --method dynamic_int8 -o runs/int8
    """,
}


def compress_command(kind: Kind) -> Callable[..., int]:
    """The command of one kind."""

    def compress(
        screen: Screen,
        *,
        config: Config = None,
        model: Model = None,
        method: Method = None,
        data: Data = None,
        validation: Validation = None,
        columns: ColumnNames = None,
        seeds: Seeds = None,
        overrides: Set = None,
        output: Output = None,
        overwrite: Overwrite = False,
        dry_run: DryRun = False,
    ) -> int:
        from compressbert.cli.inputs import model_options, read_document, settings_of
        from compressbert.cli.steps import perform
        from compressbert.config.schema import CompressConfig
        from compressbert.results.record import StepResult

        options = model_options(
            model=model, method=method, data=data, validation=validation, columns=columns, seeds=seeds, output=output,
            split="validation" if kind == "quantize" else "train",
        )  # fmt: skip
        document = read_document(config, overrides, options)
        settings = settings_of(document, kind, CompressConfig, needs_output=True)

        def work() -> StepResult:
            from compressbert.pipeline.steps.compress import compress as step

            return step(kind, settings, overwrite=overwrite)

        return perform(screen, kind, settings, work, dry_run=dry_run, overwrite=overwrite)

    compress.__name__, compress.__doc__ = kind, _HELP[kind]
    return compress

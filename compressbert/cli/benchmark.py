"""`compressbert benchmark`."""

from __future__ import annotations

from typing import Annotated

import typer

from compressbert.cli.console import Screen
from compressbert.cli.options import ColumnNames, Data, DryRun, Output, Overwrite, Set

Models = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL...", help="Folders or .onnx files, the baseline first; or one CONFIG.yaml."
    ),
]
Threads = Annotated[int | None, typer.Option(metavar="N", help="Threads of each worker.")]
Budget = Annotated[
    float | None,
    typer.Option(metavar="S", help="Seconds to spend; with --precision it may end earlier."),
]
Precision = Annotated[
    float | None,
    typer.Option(metavar="P", help="Measure until speed-ups are known to ± this; 0.03 is 3 %."),
]
_CONFIG_SUFFIXES = (".yaml", ".yml")


def benchmark(
    screen: Screen,
    *,
    models: Models = None,
    data: Data = None,
    columns: ColumnNames = None,
    threads: Threads = None,
    budget_seconds: Budget = None,
    precision: Precision = None,
    overrides: Set = None,
    output: Output = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> int:
    """Time models against the first of them, interleaved.

    Example: compressbert benchmark runs/teacher-onnx runs/onnx --data dev.csv
    """
    from compressbert.cli.inputs import model_options, read_document, settings_of
    from compressbert.cli.steps import show_intention
    from compressbert.config.schema import BenchmarkConfig

    config, paths = _config_and_models(models or [])
    options = model_options(data=data, columns=columns, output=output, split="validation")
    options["MODEL"] = ("models", paths or None)
    options["--threads"] = ("benchmark.threads", threads)
    options["--budget-seconds"] = ("benchmark.budget_seconds", budget_seconds)
    options["--precision"] = ("benchmark.precision", precision)
    settings = settings_of(read_document(config, overrides, options), "benchmark", BenchmarkConfig)
    if dry_run:
        show_intention(screen, "benchmark", settings)
        return 0
    from compressbert.cli.show_benchmark import benchmark_tables
    from compressbert.pipeline.steps.benchmark import benchmark as step

    document = step(settings, overwrite=overwrite).to_json()
    screen.show(document, *benchmark_tables(document))
    return 0


def _config_and_models(arguments: list[str]) -> tuple[str | None, list[str]]:
    """A first argument that is YAML (or -) is the config; the others are models."""
    first = arguments[0] if arguments else ""
    if first == "-" or first.endswith(_CONFIG_SUFFIXES):
        return first, arguments[1:]
    return None, arguments

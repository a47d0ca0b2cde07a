"""`compressbert export`."""

from __future__ import annotations

from typing import Annotated

import typer

from compressbert.cli.console import Screen
from compressbert.cli.options import ColumnNames, Config, Data, DryRun, Model, Output, Overwrite, Set

Format = Annotated[str | None, typer.Option("--format", metavar="F", help="onnx or openvino.")]
Target = Annotated[str | None, typer.Option(metavar="T", help="Layout: any, transformers-js, tei or triton.")]
Precision = Annotated[str | None, typer.Option(metavar="P", help="auto, fp32, int8 or both.")]


def export(
    screen: Screen,
    *,
    config: Config = None,
    model: Model = None,
    file_format: Format = None,
    precision: Precision = None,
    target: Target = None,
    data: Data = None,
    columns: ColumnNames = None,
    overrides: Set = None,
    output: Output = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> int:
    """Write a model as ONNX or OpenVINO IR, checked against PyTorch.

    Example: compressbert export --model runs/int8 -o runs/onnx
    """
    from compressbert.cli.inputs import model_options, read_document, settings_of
    from compressbert.cli.steps import perform
    from compressbert.config.schema import ExportStepConfig
    from compressbert.results.record import StepResult

    options = model_options(model=model, data=data, columns=columns, output=output)
    options["--format"] = ("export.format", file_format)
    options["--target"] = ("export.target", target)
    options["--precision"] = ("export.precision", precision)
    document = read_document(config, overrides, options)
    settings = settings_of(document, "export", ExportStepConfig, needs_output=True)

    def work() -> StepResult:
        from compressbert.pipeline.steps.export import export as step

        return step(settings, overwrite=overwrite)

    return perform(screen, "export", settings, work, dry_run=dry_run, overwrite=overwrite)

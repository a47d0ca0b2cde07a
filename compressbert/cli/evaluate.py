"""`compressbert evaluate`."""

from __future__ import annotations

from compressbert.cli.console import Screen
from compressbert.cli.options import AnyModel, ColumnNames, Config, Data, DryRun, Output, Overwrite, Set


def evaluate(
    screen: Screen,
    *,
    config: Config = None,
    model: AnyModel = None,
    data: Data = None,
    columns: ColumnNames = None,
    overrides: Set = None,
    output: Output = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> int:
    """Score a model or an export, with 95 % intervals.

    Example: compressbert evaluate --model runs/onnx --data dev.csv
    """
    from compressbert.cli.inputs import model_options, read_document, settings_of
    from compressbert.cli.steps import perform
    from compressbert.config.schema import EvaluateConfig
    from compressbert.results.record import StepResult

    options = model_options(model=model, data=data, columns=columns, output=output, split="validation")
    document = read_document(config, overrides, options)
    settings = settings_of(document, "evaluate", EvaluateConfig)

    def work() -> StepResult:
        from compressbert.pipeline.steps.evaluate import evaluate as step

        return step(settings, overwrite=overwrite)

    return perform(screen, "evaluate", settings, work, dry_run=dry_run, overwrite=overwrite)

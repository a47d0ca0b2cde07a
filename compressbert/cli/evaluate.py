"""`compressbert evaluate`."""

from __future__ import annotations

from compressbert.cli.console import Screen
from compressbert.cli.options import (
    AnyModel,
    Baseline,
    ColumnNames,
    Config,
    Data,
    DryRun,
    Output,
    Overwrite,
    Set,
)


def evaluate(
    screen: Screen,
    *,
    config: Config = None,
    model: AnyModel = None,
    baseline: Baseline = None,
    data: Data = None,
    columns: ColumnNames = None,
    overrides: Set = None,
    output: Output = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> int:
    """Score a model or an export, with 95 % intervals; with --baseline also what it lost, and where.

    Example: compressbert evaluate --model runs/onnx --baseline runs/teacher --data dev.csv
    """
    from rich.console import RenderableType
    from rich.text import Text

    from compressbert.cli.inputs import model_options, read_document, settings_of
    from compressbert.cli.steps import perform
    from compressbert.config.schema import EvaluateConfig
    from compressbert.results.record import StepResult

    options = model_options(model=model, data=data, columns=columns, output=output, split="validation")
    options["--baseline"] = ("baseline.path", baseline)
    document = read_document(config, overrides, options)
    settings = settings_of(document, "evaluate", EvaluateConfig)

    def work() -> StepResult:
        from compressbert.pipeline.steps.evaluate import evaluate as step

        return step(settings, overwrite=overwrite)

    def parts(result: StepResult) -> list[RenderableType]:
        from compressbert.cli.comparison import comparison_parts, label_table

        labels = label_table(result.quality)
        shown: list[RenderableType] = [Text(), labels] if labels is not None else []
        if result.comparison is not None and settings.baseline is not None:
            shown += comparison_parts(result.comparison, result.quality, settings.baseline.path)
        return shown

    return perform(screen, "evaluate", settings, work, dry_run=dry_run, overwrite=overwrite, extra=parts)

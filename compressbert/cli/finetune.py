"""`compressbert finetune`."""

from __future__ import annotations

from compressbert.cli.console import Screen
from compressbert.cli.options import (
    ColumnNames,
    Config,
    Data,
    DryRun,
    Model,
    Output,
    Overwrite,
    Seeds,
    Set,
    Validation,
)


def finetune(
    screen: Screen,
    *,
    config: Config = None,
    model: Model = None,
    data: Data = None,
    validation: Validation = None,
    columns: ColumnNames = None,
    seeds: Seeds = None,
    overrides: Set = None,
    output: Output = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> int:
    """Train an encoder and its head on labelled data.

    Example: compressbert finetune --model DIR --data train.csv --validation dev.csv -o runs/teacher
    """
    from compressbert.cli.inputs import model_options, read_document, settings_of
    from compressbert.cli.steps import perform
    from compressbert.config.schema import FinetuneConfig
    from compressbert.results.record import StepResult

    options = model_options(
        model=model, data=data, validation=validation, columns=columns, seeds=seeds, output=output
    )
    document = read_document(config, overrides, options)
    settings = settings_of(document, "finetune", FinetuneConfig, needs_output=True)

    def work() -> StepResult:
        from compressbert.pipeline.steps.finetune import finetune as step

        return step(settings, overwrite=overwrite)

    return perform(screen, "finetune", settings, work, dry_run=dry_run, overwrite=overwrite)

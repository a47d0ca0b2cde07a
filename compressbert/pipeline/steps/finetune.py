"""`finetune`: train an encoder and its task head on labelled data. Its result is the teacher of later steps."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import Tensor

from compressbert.config.schema import FinetuneConfig
from compressbert.data.batches import Batch
from compressbert.methods.base import labels_of
from compressbert.model.checkpoint import load
from compressbert.model.handle import Model
from compressbert.pipeline.keys import model_fingerprint, step_key
from compressbert.pipeline.steps.inputs import Inputs, read_inputs
from compressbert.pipeline.steps.outcome import Outcome, finish_model, output_folder
from compressbert.pipeline.steps.seeds import need_validation, other_seeds
from compressbert.pipeline.steps.together import shared_step
from compressbert.results.record import StepResult
from compressbert.train.loop import FitResult, fit


def finetune(config: FinetuneConfig, *, overwrite: bool = False) -> StepResult:
    """Train ``config.model`` on ``config.data`` and write a model folder to ``config.output``.

    A killed run resumes exactly when it is called again with the same settings.

    Raises:
        ConfigError: Settings are impossible, or the output folder is not empty.
        InputError: The model or the data is unusable.
        WorkError: Training diverged, or the disk is full.
    """
    started = time.monotonic()
    target = output_folder(config)
    source = model_fingerprint(config.model.path, config.model.revision)
    settings = config.model_dump(mode="json", include={"train", "seed", "seeds"})
    key = step_key("finetune", settings, inputs=[source], data=config.data)
    with shared_step(target, overwrite=overwrite, key=key) as step:
        inputs = read_inputs(config.data, config.model, needs=("train",), also=("validation",), new_head=True)
        need_validation(config, inputs)
        model, fitted = _trained(config, inputs, config.seed, step.work)
        others = other_seeds(
            config, inputs, step.work, lambda seed, work: _trained(config, inputs, seed, work)[0]
        )
        outcome = Outcome("finetune", config, config.model, source, inputs, started, log=fitted.log)
        outcome.other_seeds = others
        return step.finish(lambda folder: finish_model(folder, model, outcome))


def _trained(config: FinetuneConfig, inputs: Inputs, seed: int, work: Path) -> tuple[Model, FitResult]:
    torch.manual_seed(seed)  # a new head is drawn from this seed
    model = load(
        config.model.path,
        task=inputs.task.spec(),
        revision=config.model.revision,
        trust_remote_code=config.model.trust_remote_code,
    )
    task = inputs.task

    def loss(student: Model, batch: Batch) -> dict[str, Tensor]:
        return {"task": task.loss(student(**batch.inputs).logits, labels_of(batch))}

    fitted = fit(
        model,
        inputs.required("train", model.tokenizer),
        loss,
        config.train,
        task=task,
        seed=seed,
        work=work,
        stage="finetune",
        validation=inputs.encoded("validation", model.tokenizer),
    )
    return model, fitted

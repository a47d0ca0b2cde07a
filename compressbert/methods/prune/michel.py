"""Michel head pruning: remove the attention heads whose gates the loss cares least about.

Paper: P. Michel et al. Are Sixteen Heads Really Better than One? NeurIPS 2019. arXiv 1905.10650

What is done: a gate ξ_h = 1 is imagined on the output of every head. Its importance is

    I_h = mean over examples of |∂L(x)/∂ξ_h| = mean |Σ Att_h(x) · ∂L(x)/∂Att_h(x)|,   then I ← I / ‖I of its
    layer‖₂

with the absolute value per example, the model in evaluation mode and the task's loss. The least important
heads are removed physically, a tenth of all heads at a time, until the budget is met.

Differs from the paper: importance is estimated again after each step (the paper ranks once; `step_fraction:
1` does that); a layer always keeps `minimum_heads`; a short re-tune with the dense model as teacher is
offered (the paper has none, and it is off by default). Layers that share their weights (ALBERT) lose the same heads:
such a head has one gate for all its layers. Where the paper prunes until quality falls, here
`keep` says how far.

Cost: a forward and a backward pass over `rows` examples for each step; seconds for a small model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from compressbert.config.schema import Positive
from compressbert.data.batches import Batch
from compressbert.methods.base import MethodConfig, Run, labels_of, trainable_copy
from compressbert.methods.knowledge import retune
from compressbert.model.edits import keep_heads
from compressbert.model.handle import Model
from compressbert.model.survivors import distinct_layers, spread
from compressbert.nn.importance import Scope, choose_heads, head_importance, normalize_layers

NEEDS = ("data",)

SURVEY = None

TRAIN_DEFAULTS = {"epochs": 1.0, "batch_size": 32, "learning_rate": 5e-5}


class Config(MethodConfig):
    """Settings of michel."""

    keep: Annotated[float, Field(gt=0, le=1)] = Field(
        0.6,
        description="Fraction of heads that survive. The paper finds 40 % of BERT's not needed.",
    )
    scope: Scope = Field(
        "global", description="global: all heads compete. layer: each layer keeps the same fraction."
    )
    step_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="Fraction of all heads removed between two estimates; 1 removes them in one shot."
    )
    normalize: bool = Field(True, description="Divide each layer's importances by their L2 norm.")
    minimum_heads: Positive = Field(1, description="Heads that every layer keeps.")
    rows: Positive = Field(512, description="Training rows the importance is estimated on.")
    retune_epochs: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Epochs of training after the cut, with the dense model as teacher."
    )
    retune_hard_weight: Annotated[float, Field(ge=0)] = Field(
        1.0, description="Weight of the task's own loss in the re-tune, beside the soft targets."
    )
    retune_dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="Dropout in the re-tune. Unset: the model's own."
    )


def keep_steps(keep: float, step_fraction: float) -> Iterator[float]:
    """Yield the fraction to keep after each step: falling by ``step_fraction``, the last one is ``keep``."""
    steps = 1
    while 1 - steps * step_fraction > keep + 1e-9:
        yield 1 - steps * step_fraction
        steps += 1
    if keep < 1:
        yield keep


def score_heads(model: Model, batches: Sequence[Batch], run: Run, *, normalize: bool) -> list[Tensor]:
    """Return the importance of every head, (heads,) for each layer with weights of its own, on ``batches``."""
    model.eval()

    def summed_loss(batch: Batch) -> Tensor:
        with torch.enable_grad():
            mean = run.required_task.loss(model(**batch.inputs).logits, labels_of(batch))
        return mean * len(batch.examples)

    projections = [layer.attention_out for layer in distinct_layers(model)]
    scores = head_importance(projections, model.family.head_size(model.network), batches, summed_loss)
    return normalize_layers(scores) if normalize else scores


def surviving_heads(model: Model, config: Config, run: Run) -> list[list[int]]:
    """Return the heads of each layer with weights of its own that survive all steps, counted as in ``model``."""
    working = trainable_copy(model, "michel")
    batches = list(run.sample_batches(model, config.rows))
    counts = [layer.heads for layer in distinct_layers(model)]
    survivors = [list(range(count)) for count in counts]
    for keep in keep_steps(config.keep, config.step_fraction):
        scores = score_heads(working, batches, run, normalize=config.normalize)
        chosen = choose_heads(scores, keep, scope=config.scope, minimum=config.minimum_heads, counts=counts)
        survivors = [[old[i] for i in new] for old, new in zip(survivors, chosen, strict=True)]
        keep_heads(working, spread(working, chosen))
    return survivors


def compress(model: Model, config: Config, run: Run) -> Model:
    """Return a copy of ``model`` with ``config.keep`` of its heads.

    Raises:
        ConfigError: The budget cannot be met, or there is no training data.
    """
    run.require("michel", NEEDS)
    survivors = surviving_heads(model, config, run)
    pruned = trainable_copy(model, "michel")
    counts = [layer.heads for layer in model.family.layers(model.network)]
    kept = spread(pruned, survivors)
    keep_heads(pruned, kept)
    run.note(f"Heads kept in each layer: {[len(heads) for heads in kept.values()]} of {counts}.")
    retune(
        pruned, model, run, epochs=config.retune_epochs, config=config,
        hard_weight=config.retune_hard_weight, dropout=config.retune_dropout,
    )  # fmt: skip
    return pruned

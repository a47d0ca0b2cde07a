"""Width pruning: remove FFN neurons and residual dimensions, found as groups of coupled weights.

Paper: G. Fang et al. DepGraph: Towards Any Structural Pruning. CVPR 2023. arXiv 2301.12900 (the groups)
Paper: G. Fang et al. Isomorphic Pruning. ECCV 2024. arXiv 2407.04616 (only alike groups compete)
Paper: P. Molchanov et al. Importance Estimation for Network Pruning. CVPR 2019. arXiv 1906.10771 (Taylor)

What is done: torch-pruning traces the network and finds, for one neuron or one dimension, every row and
column of a weight that must go with it. The score of a unit is the mean over these of

    magnitude: Σ w², divided by the layer's mean
    taylor:    Σ |w · ∂L/∂w|, from the task's gradient on `rows` examples

The lowest scores are removed: of each layer alone (scope: layer, every layer keeps the same width and the
folder loads in stock transformers) or of all layers together (scope: global). Attention heads keep their
size. Then a re-tune with the dense model as teacher: T² · KL(dense ‖ cut) + task loss.

Differs from the papers: torch-pruning only finds and scores the groups; the choice meets the budget exactly
and the cut goes through the project's own edits, so that saving and loading know it. FFN and residual stream
are scored on the same dense model. Removing residual dimensions hurts far more per weight than removing
neurons and is off by default.

Cost: a trace; for taylor a backward pass over `rows` examples; then `retune_epochs` of training.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import torch
import torch_pruning
from pydantic import Field
from torch import Tensor, nn
from transformers.utils import ModelOutput

from compressbert.config.schema import Positive
from compressbert.data.batches import Batch
from compressbert.methods.base import MethodConfig, Run, labels_of, trainable_copy
from compressbert.methods.knowledge import retune
from compressbert.model.edits import keep_hidden, keep_neurons
from compressbert.model.handle import Model
from compressbert.model.survivors import distinct_layers, spread
from compressbert.nn.importance import Scope, choose_units

NEEDS = ("data",)

SURVEY = None

TRAIN_DEFAULTS = {"epochs": 1.0, "batch_size": 32, "learning_rate": 1e-4}

Measure = Literal["magnitude", "taylor"]
KeptFraction = Annotated[float, Field(gt=0, le=1)]


class Config(MethodConfig):
    """Settings of width."""

    ffn_keep: KeptFraction = Field(0.5, description="Fraction of the FFN neurons that survive.")
    hidden_keep: KeptFraction = Field(
        1.0, description="Fraction of the residual stream's dimensions that survive."
    )
    importance: Measure = Field(
        "magnitude", description="magnitude needs no data; taylor looks at the task's gradient."
    )
    scope: Scope = Field(
        "layer",
        description="layer: each layer keeps the same fraction. global: neurons of all layers compete.",
    )
    round_to: Positive = Field(
        16,
        description="Widths are rounded to a multiple of this. Under 16, older onnxruntime errs on CPUs with AMX.",
    )
    rows: Positive = Field(512, description="Training rows the Taylor scores are estimated on.")
    retune_epochs: Annotated[float, Field(ge=0)] = Field(
        1.0, description="Epochs of training after the cut, with the dense model as teacher."
    )

    def needs(self, declared: tuple[str, ...]) -> tuple[str, ...]:
        """No data for magnitudes without re-tune."""
        return declared if self.retune_epochs or self.importance == "taylor" else ()


def example_inputs(model: Model) -> dict[str, Tensor]:
    """Return a small batch to trace ``model`` with, (2, 8) token ids and a mask of ones."""
    ids = torch.full((2, 8), model.tokenizer.cls_token_id, device=model.network.device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def accumulate_gradients(model: Model, batches: Iterable[Batch], run: Run) -> None:
    """Add the task's gradient on ``batches`` to the weights of ``model``, in evaluation mode."""
    model.eval()
    for batch in batches:
        loss = run.required_task.loss(model(**batch.inputs).logits, labels_of(batch)) * len(batch.examples)
        loss.backward()  # type: ignore[no-untyped-call]


def _everything(output: ModelOutput) -> Tensor:
    """The sum of all that a network returns, whatever its head."""
    return torch.stack([part.sum() for part in output.to_tuple() if isinstance(part, Tensor)]).sum()


def group_scores(model: Model, measure: Measure) -> tuple[list[Tensor], Tensor]:
    """Score every neuron and every dimension of the residual stream.

    Args:
        model: Not changed; for taylor its weights carry gradients.

    Returns:
        For each layer with weights of its own, (neurons,) scores; and (hidden,) scores.
    """
    graph = torch_pruning.DependencyGraph().build_dependency(
        model.network,
        example_inputs=example_inputs(model),
        output_transform=_everything,
    )
    if measure == "taylor":  # comparable between layers as it is: an estimate of the change of the loss
        scorer = torch_pruning.importance.GroupTaylorImportance(normalizer=None)
    else:
        scorer = torch_pruning.importance.GroupMagnitudeImportance(p=2, normalizer="mean")

    def score(root: nn.Module) -> Tensor:
        width = int(root.out_features)  # type: ignore[arg-type]
        group = graph.get_pruning_group(root, torch_pruning.prune_linear_out_channels, list(range(width)))
        scores: Tensor = scorer(group)
        return scores.detach().double().cpu()

    layers = distinct_layers(model)
    return [score(layer.ffn_in) for layer in layers], score(layers[0].ffn_out)


def compress(model: Model, config: Config, run: Run) -> Model:
    """Return a copy of ``model`` with narrower FFNs, and a narrower residual stream if asked for.

    Raises:
        ConfigError: The data that the settings need is missing.
    """
    run.require("width", config.needs(NEEDS))
    scored = trainable_copy(model, "width")
    if config.importance == "taylor":
        accumulate_gradients(scored, run.sample_batches(model, config.rows), run)
    ffn, hidden = group_scores(scored, config.importance)
    del scored
    neurons = choose_units(ffn, config.ffn_keep, scope=config.scope, multiple=config.round_to, unit="neurons")
    dimensions = choose_units(
        [hidden], config.hidden_keep, scope="layer", multiple=config.round_to, unit="dimensions"
    )[0]
    pruned = trainable_copy(model, "width")
    kept = spread(pruned, neurons)
    keep_neurons(pruned, kept)
    keep_hidden(pruned, dimensions)
    run.note(
        f"FFN neurons kept in each layer: {[len(n) for n in kept.values()]}; residual width: {len(dimensions)}."
    )
    retune(pruned, model, run, epochs=config.retune_epochs, config=config)
    return pruned

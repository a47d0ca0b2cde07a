"""LayerDrop: train with layers skipped at random, then remove some; or remove layers plainly and re-tune.

Paper: A. Fan et al. Reducing Transformer Depth on Demand with Structured Dropout. ICLR 2020. arXiv 1909.11556
Paper: H. Sajjad et al. On the Effect of Dropping Layers of Pre-trained Transformer Models. 2020. arXiv
2004.03844

What is done, in this order, each part only if asked for:
1. `rate` above 0 (Fan et al.): training on the task's loss, each layer skipped (its input passed on) with
   that probability, drawn anew for every layer and batch.
2. Layers are removed: top, bottom, alternate (evenly spaced ones stay), or a list. Kept weights are not
   rescaled.
3. `retune_epochs` above 0 (Sajjad et al. fine-tune after the cut): training with the dense model as teacher,
   T² · KL(dense ‖ cut) + task loss.

Differs from the papers: Fan et al. drop layers during pre-training, and found that dropping only while
fine-tuning makes a model little more robust to the cut; it is off by default here. Sajjad et al. cut before
fine-tuning and train on labels alone. They found that removing the top layers hurts least, four of twelve
almost nothing, six about 2 points.

Cost: `epochs` of training for part 1, `retune_epochs` for part 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from compressbert.config.schema import Positive
from compressbert.errors import ConfigError
from compressbert.methods.base import MethodConfig, Run, trainable_copy
from compressbert.methods.knowledge import retune, task_loss
from compressbert.model.edits import keep_layers
from compressbert.model.handle import Model
from compressbert.nn.layer_maps import Choice, choose_layers, listed_layers

NEEDS = ("data",)

SURVEY = None

TRAIN_DEFAULTS = {"epochs": 1.0, "batch_size": 32, "learning_rate": 5e-5}

Removal = Literal["top", "bottom", "alternate"]
KEPT_BY: dict[str, Choice] = {"top": "first", "bottom": "last", "alternate": "every-other"}


class Config(MethodConfig):
    """Settings of layerdrop."""

    remove: Removal | tuple[int, ...] = Field(
        "top", description="Which layers go: top, bottom, alternate, or a list of them, counted from 0."
    )
    layers: Positive | None = Field(
        None, description="How many layers are kept; unset: half of them. Not used when `remove` is a list."
    )
    rate: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0,
        description="Probability of skipping a layer in training before the cut (paper: 0.2); 0: none.",
    )
    retune_epochs: Annotated[float, Field(ge=0)] = Field(
        1.0, description="Epochs of training after the cut, with the dense model as teacher."
    )

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> Config:
        if self.layers is not None and not isinstance(self.remove, str):
            raise ValueError(
                f"layers: {self.layers} and a list in remove: {list(self.remove)} say it twice; give one"
            )
        return self

    def needs(self, declared: tuple[str, ...]) -> tuple[str, ...]:
        """No data for a plain removal without re-tune."""
        return declared if self.rate or self.retune_epochs else ()


def layers_after(count: int, remove: Removal | Sequence[int], layers: int | None) -> tuple[int, ...]:
    """Return the layers of ``count`` that stay.

    Raises:
        ConfigError: More layers kept than there are, every layer removed, or an index that does not exist.
    """
    if isinstance(remove, str):
        return choose_layers(count, layers, KEPT_BY[remove])
    gone = listed_layers(count, remove) if remove else ()
    if len(gone) == count:
        raise ConfigError(
            f"remove: {list(remove)} removes all {count} layers", hint="Leave at least one layer."
        )
    return tuple(layer for layer in range(count) if layer not in gone)


@contextmanager
def dropped_layers(layers: Iterable[nn.Module], rate: float, *, as_tuple: bool = False) -> Iterator[None]:
    """Skip each layer with probability ``rate`` in training mode while the block runs.

    Layers that give a tuple hand their input on as one, ``as_tuple``.
    A module that stands there for several layers is skipped in each of them by a draw of its own.
    The draws come from torch's global CPU generator, which training checkpoints, so a resumed run skips the
    same layers.
    """
    layers = list(dict.fromkeys(layers))
    for layer in layers:
        layer.forward = _maybe_skipped(layer, layer.forward, rate, as_tuple)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own again


def _maybe_skipped(
    layer: nn.Module, forward: Callable[..., Any], rate: float, as_tuple: bool
) -> Callable[..., Any]:
    def run(hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        if layer.training and torch.rand(()).item() < rate:
            return (hidden,) if as_tuple else hidden
        return forward(hidden, *args, **kwargs)

    return run


def compress(model: Model, config: Config, run: Run) -> Model:
    """Return a copy of ``model`` with fewer layers, trained before and after the cut as the settings say.

    Raises:
        ConfigError: The layers do not exist, or training is asked for and there is no data.
    """
    run.require("layerdrop", config.needs(NEEDS))
    count = len(model.family.layers(model.network))
    kept = layers_after(count, config.remove, config.layers)
    pruned = trainable_copy(model, "layerdrop")
    if config.rate:
        family = pruned.family
        blocks, as_tuple = family.blocks(pruned.network), family.gives_tuples
        with dropped_layers(blocks, config.rate, as_tuple=as_tuple):
            run.fit(pruned, task_loss(run), stage="layerdrop", depends_on=config)
    keep_layers(pruned, kept)
    run.note(f"Layers kept: {', '.join(map(str, kept))} of {count}.")
    retune(pruned, model, run, epochs=config.retune_epochs, config=config)
    return pruned

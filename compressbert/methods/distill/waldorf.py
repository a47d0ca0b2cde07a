"""WaLDORf: a student whose layers run on a sequence shortened by a convolution, for answers to questions and more.

Paper: J. Tian et al. WaLDORf: Wasteless Language-model Distillation On Reading-comprehension. 2019. arXiv 1912.06638

A reconstruction: neither code nor weights were published, and the abstract gives results, not sizes. It is known to be
a task-specific hybrid of convolutions and transformer layers for SQuAD whose teacher's states are auto-encoded.

What is done: narrow embeddings; a convolution of `kernel` word pieces makes one position of every `stride`; `layers`
narrow transformer layers run on these; a transposed convolution gives every word piece a state again, to which a
linear map of its embedding is added (`skip`). First an auto-encoder for each layer that teaches is trained on the
teacher's states: its encoder is a convolution to the student's length and width, its decoder leads back, and it learns
the mean squared error over real tokens, states normalised. Then, with s_l the student's short states after layer l
and e_l the auto-encoded states of the teacher's layer that l is matched with,

    (1 − alpha) · L_task + alpha · KL(teacher ‖ student) + states_weight · mean over l of MSE(LN(s_l), LN(e_l))

Differs from the paper: sizes are ours (the survey says 8 layers, narrow). Word vectors are the best narrow factors of
the teacher's. With `init: teacher` layers and head start from the teacher's, a position as the mean of its word pieces,
and the auto-encoders' codes as means of states: for some thousands of questions, from which random layers learn little.
A kind of task with one answer per text reads the first short position, and nothing is lengthened.
The paper's generated questions are left out; any file of questions may be given as training data.

Cost: the teacher runs once with the student on every batch, and alone while the auto-encoders learn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from compressbert.config.schema import Fraction, Positive
from compressbert.data.batches import Batch
from compressbert.errors import ConfigError
from compressbert.methods.base import MethodConfig, Run, labels_of, refuse_int8
from compressbert.methods.knowledge import forward, retune_loss, soft_loss, task_loss
from compressbert.methods.teacher_inside import teacher_inside
from compressbert.model.architectures.waldorf import Lengthen, Shorten, WaldorfConfig, short_mask
from compressbert.model.handle import Model
from compressbert.model.inside import Inside, states_between
from compressbert.model.short_student import build_short, short_layers, start_as_copy, start_as_mean
from compressbert.model.student import Init
from compressbert.nn.layer_maps import uniform_matches
from compressbert.nn.means import mean
from compressbert.train.loop import Loss

NEEDS = ("data",)

SURVEY = {
    "row": "WaLDORf",
    "compression": 4.4,
    "retained": 93,
    "speedup": 9,
    "layers": 8,
    "evaluated_on": "SQuAD",
    "remark": "8 layers with convolutions. The method here is a reconstruction; no code was published.",
}

TRAIN_DEFAULTS = {"epochs": 5.0, "batch_size": 32, "learning_rate": 3e-4}

MOST_LAYERS = 8

NonNegative = Annotated[float, Field(ge=0)]


class Config(MethodConfig):
    """Settings of waldorf."""

    init: Init = Field("random", description="random, or teacher: layers and head start from the teacher's.")
    layers: Positive | None = Field(
        None,
        description="Layers on the short sequence. Unset: the teacher's, at most 8 (the survey's number).",
    )
    hidden: Positive | None = Field(
        None,
        description="Their width, a multiple of the heads. Unset: half the teacher's; init: teacher, its own.",
    )
    heads: Positive | None = Field(
        None,
        description="Heads in each layer. Unset: one for each 64 of the width; init: teacher, heads of its size.",
    )
    ffn: Positive | None = Field(
        None,
        description="Neurons of each feed-forward network. Unset: 4 · hidden; init: teacher, at most its own.",
    )
    embedding: Positive | None = Field(None, description="Width of the word table. Unset: half of `hidden`.")
    stride: Positive = Field(2, description="Word pieces that become one position.")
    kernel: Positive = Field(
        4, description="Word pieces that a position is made of, and that it gives a state: at least `stride`."
    )
    skip: bool = Field(True, description="Add a map of a word piece's own embedding to its lengthened state.")
    encoder_epochs: NonNegative = Field(
        1.0,
        description="Passes over the data for the auto-encoders of the teacher's states; 0: states are not compared.",
    )
    encoder_learning_rate: Annotated[float, Field(gt=0)] = Field(
        1e-3, description="Learning rate of these passes."
    )
    states_weight: NonNegative = Field(1.0, description="Weight of the auto-encoded states.")
    alpha: Fraction = Field(0.5, description="Share of the teacher's answers; the labels have the rest.")

    def reads_labels(self) -> bool:
        """Where they have weight."""
        return self.alpha < 1


class StateEncoder(nn.Module):
    """States of a teacher's layer to the student's length and width, and back."""

    def __init__(self, width: int, narrow: int, *, kernel: int, stride: int) -> None:
        super().__init__()
        sizes = {"kernel": kernel, "stride": stride}
        self.stride = stride
        self.encode = Shorten(width, narrow, **sizes)
        self.decode = Lengthen(narrow, width, **sizes)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """(B, S, width) and (B, S) to normalised codes (B, S′, narrow)."""
        return _normalised(self.encode(_normalised(states), mask))

    def loss(self, states: Tensor, mask: Tensor) -> Tensor:
        """Squared error of what comes back, mean over real tokens and features."""
        codes = self(states, mask)
        back = self.decode(codes, short_mask(mask, self.stride), states.shape[1])
        real = mask.bool()
        return mean((back.float()[real] - _normalised(states)[real]).square())


def _each(encoders: nn.ModuleList) -> list[StateEncoder]:
    return cast(list[StateEncoder], list(encoders))


def _normalised(states: Tensor) -> Tensor:
    return functional.layer_norm(states.float(), states.shape[-1:])


def config_of(teacher: Model, config: Config) -> WaldorfConfig:
    """Return the student's sizes.

    Raises:
        ConfigError: They do not fit together, or the student is deeper than its teacher.
    """
    layers = teacher.family.layers(teacher.network)
    own, starts = layers[0], config.init == "teacher"
    hidden = config.hidden or (own.hidden if starts else max(1, own.hidden // 2))
    heads = config.heads or max(1, hidden // (own.head_size if starts else 64))
    depth = config.layers or min(MOST_LAYERS, len(layers))
    uniform_matches(len(layers), depth)
    if hidden % heads:
        raise ConfigError(f"hidden: {hidden} is no multiple of {heads} heads", hint="Choose one that is.")
    if config.kernel < config.stride:
        raise ConfigError(
            f"kernel: {config.kernel} is less than stride: {config.stride}, so words between would be lost",
            hint="Choose a kernel of at least the stride.",
        )
    return WaldorfConfig(
        num_hidden_layers=depth,
        hidden_size=hidden,
        num_attention_heads=heads,
        intermediate_size=config.ffn or (min(own.ffn, 4 * hidden) if starts else 4 * hidden),
        embedding_size=config.embedding or max(1, hidden // 2),
        stride=config.stride,
        kernel=config.kernel,
        skip=config.skip,
    )


def state_encoders(teacher: Model, sizes: WaldorfConfig, seed: int, init: Init = "random") -> nn.ModuleList:
    """Return an untrained auto-encoder for each of the student's layers.

    From the ``teacher`` its codes are means of states, and each word piece gets its code back.
    """
    widths = {"kernel": sizes.kernel, "stride": sizes.stride}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoders = [
            StateEncoder(teacher.width, sizes.hidden_size, **widths) for _ in range(sizes.num_hidden_layers)
        ]
    for encoder in encoders if init == "teacher" else ():
        start_as_mean(encoder.encode, sizes.stride)
        start_as_copy(encoder.decode, sizes.stride)
    return nn.ModuleList(encoders)


def reconstruction(
    taught: Callable[[Batch], Inside], encoders: nn.ModuleList, matches: Sequence[int]
) -> Loss:
    """Return the auto-encoders' training loss, mean over layers."""

    def loss(_: Model, batch: Batch) -> dict[str, Tensor]:
        hidden, mask = taught(batch).hidden, batch.inputs["attention_mask"]
        pairs = zip(_each(encoders), matches, strict=True)
        errors = [encoder.loss(hidden[layer + 1], mask) for encoder, layer in pairs]
        return {"reconstruction": torch.stack(errors).mean()}

    return loss


def states_loss(
    short: Sequence[Tensor],
    hidden: Sequence[Tensor],
    mask: Tensor,
    encoders: nn.ModuleList,
    matches: Sequence[int],
) -> Tensor:
    """Return the mean over layers of MSE(LN(student), LN(encoded teacher)) over real short positions.

    Args:
        short: The student's short states, before and after every layer: (B, S′, narrow) each.
        hidden: The teacher's states, of the embeddings and after every layer: (B, S, H) each.
        mask: (B, S), 1 for real tokens.
        encoders: One for each of the student's layers.
        matches: The teacher's layer for each of the student's.
    """
    errors = []
    for index, (encoder, layer) in enumerate(zip(_each(encoders), matches, strict=True)):
        with torch.no_grad():
            codes = encoder(hidden[layer + 1], mask)
        real = short_mask(mask, encoder.stride).bool()
        errors.append(mean((_normalised(short[index + 1])[real] - codes[real]).square()))
    return torch.stack(errors).mean()


def training_loss(run: Run, config: Config, encoders: nn.ModuleList | None, matches: Sequence[int]) -> Loss:
    """Return the loss of the module's docstring; without ``encoders`` states are not compared."""
    if encoders is None and not config.alpha:
        return task_loss(run)
    if encoders is None:
        return retune_loss(run, temperature=1.0, soft_weight=config.alpha, hard_weight=1 - config.alpha)
    taught, task = teacher_inside(run), run.required_task

    def loss(student: Model, batch: Batch) -> dict[str, Tensor]:
        theirs, mask = taught(batch), batch.inputs["attention_mask"]  # answers and states from one pass
        with states_between(short_layers(student)) as short:
            logits, signals = forward(student, batch, task=task, hidden=False)
        answers = task.signals(theirs.output.logits, batch)
        parts = {"soft": config.alpha * soft_loss(task.kind, "kl", signals.logits, answers, 1.0)}
        if config.reads_labels():
            parts["task"] = (1 - config.alpha) * task.loss(logits, labels_of(batch))
        states = states_loss(short, theirs.hidden, mask, encoders.to(mask.device), matches)
        return {**parts, "states": config.states_weight * states}

    return loss


def compress(model: Model, config: Config, run: Run) -> Model:
    """Return a student of ``model`` (the teacher, unless the run has another one).

    Raises:
        ConfigError: An impossible shape, a task that such a student cannot learn, or no training data.
        InputError: The teacher is int8.
    """
    run.require("waldorf", NEEDS)
    refuse_int8(model, "waldorf")
    run = run.with_teacher(model)
    teacher, kind = run.required_teacher, run.required_task.kind
    if kind in ("masked-lm", "sentence-embedding"):
        raise ConfigError(
            f"waldorf makes narrow students for one task, which cannot learn {kind}",
            hint="Give labelled texts, tagged words or questions.",
        )
    if run.student is not None:
        raise ConfigError(
            "waldorf builds its student itself, but the run brings one", hint="Leave `student` out."
        )
    sizes = config_of(teacher, config)
    matches = uniform_matches(len(teacher.family.layers(teacher.network)), sizes.num_hidden_layers)
    starts = config.init == "teacher"
    student = build_short(teacher, sizes, kind=kind, seed=run.seed, layers=matches if starts else ())
    run.note(
        f"The student has {sizes.num_hidden_layers} layers, {sizes.hidden_size} wide, on a sequence {sizes.stride} "
        f"times shorter; layers start {_start_of(config, matches)}, word vectors from the teacher. It is a "
        "reconstruction: the paper's code was not published."
    )
    encoders = None
    if config.encoder_epochs and config.states_weight:
        encoders = state_encoders(teacher, sizes, run.seed, config.init)
        student.network.requires_grad_(False)
        run.for_phase(learning_rate=config.encoder_learning_rate).fit(
            student,
            reconstruction(teacher_inside(run), encoders, matches),
            stage="encoders",
            epochs=config.encoder_epochs,
            depends_on=config,
            extra_modules={"encoders": encoders},
        )
        encoders.requires_grad_(False)
    student.network.requires_grad_(True)
    run.fit(student, training_loss(run, config, encoders, matches), stage="distill", depends_on=config)
    return student


def _start_of(config: Config, matches: Sequence[int]) -> str:
    return "at random" if config.init == "random" else f"from the teacher's {', '.join(map(str, matches))}"

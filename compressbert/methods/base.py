"""What a method is given: its settings' base class and the `Run` that carries data, teacher and training."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from compressbert.config.schema import Settings, TrainConfig
from compressbert.data.alignment import same_examples
from compressbert.data.batches import Batch, collate, ordered_batches
from compressbert.data.encode import Encoded, encode_again
from compressbert.errors import ConfigError, InputError
from compressbert.model.handle import Model
from compressbert.progress import note
from compressbert.tasks.base import Task
from compressbert.train.loop import FitResult, Loss, fit
from compressbert.train.teacher import TeacherOutputs, teacher_outputs

# What a method may name in NEEDS, and what to tell a user who lacks it.
NEED_TEXTS = {
    "data": ("training data", "Add a data section: data: {train: FILE}."),
    "teacher": ("a teacher", "Add `teacher: {path: FOLDER}`."),
}


class MethodConfig(Settings):
    """Base of a method's settings: frozen, unknown keys refused, the paper's values as defaults.

    Attributes:
        reads_unlabelled: Whether the method reads ``data.unlabelled``, and can do without training rows then.
        takes_student: Whether what it makes may start from a model of its own, `student`.
    """

    reads_unlabelled: ClassVar[bool] = False
    takes_student: ClassVar[bool] = False

    def needs(self, declared: tuple[str, ...]) -> tuple[str, ...]:
        """Return which of the method's NEEDS a run with these settings has; all of them by default."""
        return declared

    def reads_labels(self) -> bool:
        """Return whether a run with these settings learns from the labels of its rows; assumed by default."""
        return True


@dataclass
class Run:
    """What a method works with.

    Attributes:
        task: What the model learns to do; None for a method that looks at no data.
        train: Training rows as token ids.
        validation: Validation rows; used to choose the best epoch when the settings ask for it.
        settings: How the method trains.
        teacher: The dense model; put into evaluation mode with gradients off when the run is made.
        student: Where a student starts, if not at a part of its teacher.
        unlabelled: Rows without labels, for methods that read them.
        teacher_rows: The training rows as the teacher's tokenizer cuts them, where the student has another one.
        seed: Seed of everything random.
        work: Folder for checkpoints and teacher outputs; survives a kill, so that the same run resumes.
        generator: A CPU generator started from ``seed``, for what a method draws itself.
        notes: What a reader of the result should know.
        log: The logged steps of every training stage so far.
    """

    task: Task | None
    train: Encoded | None
    validation: Encoded | None
    settings: TrainConfig
    teacher: Model | None
    seed: int
    work: Path
    student: Model | None = None
    unlabelled: Encoded | None = None
    teacher_rows: Encoded | None = None
    generator: torch.Generator = field(init=False, repr=False)
    notes: list[str] = field(default_factory=list)
    log: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)
        if self.teacher is not None:
            self.teacher.eval()
            self.teacher.network.requires_grad_(False)
            self._check_teacher_head(self.teacher)

    @classmethod
    def create(
        cls,
        *,
        task: Task | None = None,
        train: Encoded | None = None,
        validation: Encoded | None = None,
        settings: TrainConfig | Mapping[str, Any] | None = None,
        teacher: Model | None = None,
        student: Model | None = None,
        unlabelled: Encoded | None = None,
        seed: int = 0,
        work: str | Path,
    ) -> Run:
        """Make a run from Python, with defaults for what a method does not need.

        Args:
            settings: Training settings, or the keys that differ from the defaults (a method's
                ``TRAIN_DEFAULTS``).
            work: Folder for checkpoints and cached teacher outputs; use a new one for each run.
        """
        if not isinstance(settings, TrainConfig):
            settings = TrainConfig.model_validate(settings or {})
        return cls(task, train, validation, settings, teacher, seed, Path(work), student, unlabelled)

    def require(self, method: str, needs: tuple[str, ...]) -> None:
        """Check that the run has what a method needs.

        Raises:
            ConfigError: Something is missing; the message names it and what to add.
        """
        present = {
            "data": self.task is not None and (self.train is not None or self.unlabelled is not None),
            "teacher": self.teacher is not None,
        }
        for need in needs:
            if not present[need]:
                text, hint = NEED_TEXTS[need]
                raise ConfigError(f"{method} needs {text} and there is none", hint=hint)

    @property
    def training_data(self) -> Encoded:
        """The training rows.

        Raises:
            ConfigError: There are none.
        """
        if self.train is None:
            text, hint = NEED_TEXTS["data"]
            raise ConfigError(f"This step needs {text} and there is none", hint=hint)
        return self.train

    @property
    def required_task(self) -> Task:
        """The task.

        Raises:
            ConfigError: There is none.
        """
        if self.task is None:
            raise ConfigError("This step needs a task and there is none", hint=NEED_TEXTS["data"][1])
        return self.task

    @property
    def required_teacher(self) -> Model:
        """The teacher.

        Raises:
            ConfigError: There is none.
        """
        if self.teacher is None:
            text, hint = NEED_TEXTS["teacher"]
            raise ConfigError(f"This step needs {text} and there is none", hint=hint)
        return self.teacher

    def note(self, text: str) -> None:
        """Say a fact now and keep it for the result."""
        note(text)
        self.notes.append(text)

    def for_phase(self, **settings: Any) -> Run:
        """Return this run with other training settings and without validation: for a stage that is not scored.

        Its last weights count, and there is no early stop.
        """
        changes = {**settings, "keep": "last", "early_stop": None}
        return replace(self, validation=None, settings=self.settings.model_copy(update=changes))

    def with_teacher(self, dense: Model) -> Run:
        """Return this run, or one taught by a copy of ``dense`` if it has no teacher."""
        return self if self.teacher is not None else replace(self, teacher=dense.copy())

    def for_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> Run:
        """This run for a student with a tokenizer of its own: its rows, and those that its teacher reads."""

        def again(rows: Encoded | None) -> Encoded | None:
            return None if rows is None else encode_again(rows, tokenizer)

        return replace(
            self,
            train=again(self.train),
            validation=again(self.validation),
            unlabelled=again(self.unlabelled),
            teacher_rows=self.teacher_rows or self.train,
        )

    def on(self, rows: Encoded) -> Run:
        """This run with other training rows, cut as those it has."""
        theirs = None if self.teacher_rows is None else encode_again(rows, self.required_teacher.tokenizer)
        return replace(self, train=rows, teacher_rows=theirs)

    def teacher_batch(self, batch: Batch) -> Batch:
        """A batch of training rows as the teacher reads it, on its own device."""
        if self.teacher_rows is None:
            return batch
        examples = same_examples(batch, self.training_data, self.teacher_rows)
        pad_id = self.required_teacher.tokenizer.pad_token_id
        return collate(self.teacher_rows, examples, pad_id=pad_id).to(batch.inputs["input_ids"].device)

    def fit(
        self,
        model: Model,
        loss: Loss,
        *,
        stage: str = "train",
        epochs: float | None = None,
        depends_on: MethodConfig | None = None,
        before_step: Callable[..., None] | None = None,
        after_step: Callable[..., None] | None = None,
        extra_modules: Mapping[str, nn.Module] | None = None,
        rate_of: Callable[[str], float] | None = None,
    ) -> FitResult:
        """Train ``model`` in place on the training rows with ``loss``, and leave it in evaluation mode.

        Args:
            model: What learns.
            loss: Gives the named, weighted parts of the loss of a batch.
            stage: Name of this training within the run; each has its own checkpoints.
            epochs: Passes over the data; default: the run's settings.
            depends_on: Settings the loss was made from. Others train anew, in a folder of their own, instead
                of reading back what these left in ``work``.
            before_step, after_step, extra_modules, rate_of: As in `train.loop.fit`.
        """
        settings = self.settings if epochs is None else self.settings.model_copy(update={"epochs": epochs})
        folder = self.work
        if depends_on is not None:
            folder /= hashlib.sha256(depends_on.model_dump_json().encode()).hexdigest()[:12]
        result = fit(
            model,
            self.training_data,
            loss,
            settings,
            task=self.required_task,
            seed=self.seed,
            work=folder,
            stage=stage,
            validation=self.validation,
            before_step=before_step,
            after_step=after_step,
            extra_modules=extra_modules or {},
            rate_of=rate_of,
        )
        self.log.extend(dict(entry) for entry in result.log)
        model.eval()
        return result

    def sample(self, rows: int) -> Encoded:
        """Return ``rows`` training rows (all, if fewer), drawn by the generator without replacement."""
        order = torch.randperm(len(self.training_data), generator=self.generator)[:rows]
        return self.training_data.subset(order.sort().values.numpy())

    def sample_batches(self, model: Model, rows: int, *, batch_size: int = 32) -> Iterator[Batch]:
        """Yield a `sample` as padded batches on the model's device, longest rows first."""
        pad_id = model.tokenizer.pad_token_id
        for batch in ordered_batches(self.sample(rows), batch_size=batch_size, pad_id=pad_id):
            yield batch.to(model.network.device)

    def teacher_outputs(self, *, layers: tuple[int, ...] = ()) -> TeacherOutputs:
        """Return the teacher's logits (and [CLS] states after ``layers``) for every training row; computed once.

        Raises:
            ConfigError: The run has no teacher or no data.
        """
        return teacher_outputs(
            self.required_teacher,
            self.training_data if self.teacher_rows is None else self.teacher_rows,
            work=self.work,
            layers=layers,
            precision=self.settings.precision,
        )

    def _check_teacher_head(self, teacher: Model) -> None:
        if self.task is None or self.task.num_outputs == 0:
            return
        outputs = teacher.network.config.num_labels
        if outputs != self.task.num_outputs:
            raise InputError(
                f"The teacher has {outputs} outputs, the data needs {self.task.num_outputs}",
                hint="Use a teacher that was fine-tuned on this task.",
            )


def trainable_copy(model: Model, method: str) -> Model:
    """Return a copy of ``model`` in which every weight takes gradients, in evaluation mode.

    Raises:
        InputError: The model is int8.
    """
    refuse_int8(model, method)
    copy = model.copy().eval()
    copy.network.requires_grad_(True)
    return copy


def refuse_int8(model: Model, method: str) -> None:
    """Raise InputError for an int8 model, which ``method`` cannot train or learn from."""
    if model.is_int8:
        raise InputError(
            f"{method} cannot work on int8 weights, which have no gradient",
            hint="Give it the fp32 model, and quantize last.",
        )


def labels_of(batch: Batch) -> Tensor:
    """Return the labels of a training batch.

    Raises:
        InputError: The rows have none.
    """
    if batch.labels is None:
        raise InputError(
            "The training rows have no labels", hint="Add `columns: {label: NAME}` to the data section."
        )
    return batch.labels

"""What the steps of one training share: accelerator, plan, folder, optimizer, losses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from transformers.utils import ModelOutput

from compressbert import progress
from compressbert.config.schema import TrainConfig
from compressbert.data.batches import Batch, TrainingBatches, training_batches
from compressbert.data.encode import Encoded
from compressbert.model.handle import Model
from compressbert.nn.means import together
from compressbert.tasks.base import Task
from compressbert.train.attention import attention_in_float32
from compressbert.train.checkpoint import Progress, StageFolder, fingerprint, tensors_of
from compressbert.train.log import LossLog
from compressbert.train.optim import (
    autocast,
    build_optimizer,
    clip_gradients,
    learning_rate_at,
    named_trainable,
    set_learning_rate,
    use_bf16,
)
from compressbert.train.plan import Plan, derived_seed
from compressbert.train.predict import score
from compressbert.train.processes import processes
from compressbert.train.touched_rows import TouchedRows

Loss = Callable[[Model, Batch], dict[str, Tensor]]


class _Trainee(nn.Module):
    """All that is trained, its forward pass the loss: one wrapper then synchronises all gradients."""

    def __init__(
        self, model: Model, extra_modules: Mapping[str, nn.Module], loss: Loss, *, bf16: bool, alone: bool
    ) -> None:
        super().__init__()
        self.bf16 = bf16
        self.alone = alone
        self.network = model.network
        self.extra = nn.ModuleDict(extra_modules)
        self._model = model
        self._loss = loss

    def forward(self, batch: Batch, weight: float) -> dict[str, Tensor]:
        # Innermost, so that it holds whatever precision accelerate was launched with.
        with autocast(self.network.device, self.bf16), together(not self.alone, weight=weight):
            return self._loss(self._model, batch)


class Stage:
    """What the steps of one `fit` share."""

    def __init__(
        self, model: Model, encoded: Encoded, loss: Loss, settings: TrainConfig, *, task: Task, seed: int,
        folder: Path, validation: Encoded | None, extra_modules: Mapping[str, nn.Module],
        rate_of: Callable[[str], float] | None = None,
    ) -> None:  # fmt: skip
        self.model, self.encoded, self.settings, self.task = model, encoded, settings, task
        self.seed, self.validation, self.name = seed, validation, folder.name
        self.rate_of = None if rate_of is None else partial(_rate_in_network, rate_of)
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)  # dropped layers, unread heads
        self.accelerator = Accelerator(cpu=processes().device.type == "cpu", kwargs_handlers=[unused])
        self.device: torch.device = self.accelerator.device
        self.process: int = self.accelerator.process_index
        self.processes: int = self.accelerator.num_processes
        bf16 = use_bf16(settings.precision, self.device)
        self.trainee = _Trainee(model, extra_modules, loss, bf16=bf16, alone=self.processes == 1)
        alone_on_cpu = self.device.type == "cpu" and self.processes == 1  # an exchange wants dense gradients
        self.touched = TouchedRows(self.trainee, enabled=alone_on_cpu)
        self.epoch, self.batches = 0, self._batches(0)
        self.plan = Plan.of(settings, len(self.batches))
        self.examples_in_all = round(min(self.plan.epochs(self.plan.total), settings.epochs) * len(encoded))
        self.folder = StageFolder(folder, self._key())
        self.state = Progress()

    def _key(self) -> str:
        """What the outcome depends on, apart from ``loss`` and the hooks."""
        settings = self.settings.model_dump(exclude={"checkpoint_every", "average_runs"})
        facts = (settings, self.seed, self.name, self.trainee.bf16, self.processes, self.encoded.key)
        tensors, masking = tensors_of(self.trainee), self.encoded.masking
        if masking is None:
            return fingerprint(tensors, *facts)
        if masking.weights is not None:
            tensors["masking weights"] = masking.weights
        return fingerprint(tensors, *facts, *masking.facts)

    @contextmanager
    def training(self) -> Iterator[None]:
        """Training mode on the accelerator; device, mode and random state are put back at the end."""
        home = self.model.network.device
        rows = self.model.network.register_forward_hook(_logits_in_float32)
        devices = [self.device] if self.device.type == "cuda" else []
        slow_attention = self.device.type == "cpu" and self.trainee.bf16
        attention = attention_in_float32(self.model.network, enabled=slow_attention)
        try:
            with torch.random.fork_rng(devices=devices), self.touched.sparse(), attention:
                self.trainee.to(self.device)
                self.model.train()
                self.trainee.train()
                yield
        finally:
            rows.remove()
            self.trainee.to(home).eval()

    def restore(self) -> int | None:
        """Load the final weights or the last checkpoint, if there is one; returns the step it stands at."""
        if self.accelerator.is_main_process:
            self.folder.prepare()
        self.accelerator.wait_for_everyone()
        done, found = self.folder.done(), self.folder.done() or self.folder.latest()
        if found:
            self.state = self.folder.read(found, self.trainee)
        self.was_done = done is not None
        self.trainable = [parameter for _, parameter in named_trainable(self.trainee)]
        self.optimizer = build_optimizer(self.trainee, self.settings, self.rate_of)
        if found and not done:
            self.folder.read_optimizer(found, self.trainee, self.optimizer)
            progress.note(f"{self.name}: going on from step {self.state.step} of {self.plan.total}")
        self.wrapped = self.accelerator.prepare(self.trainee)
        self.losses = LossLog(self.state, self.plan.total, self.name, self.device)
        self.resumed_at, self.started = self.state.seconds, time.perf_counter()
        return self.state.step if found else None

    @property
    def finished(self) -> bool:
        """Whether no step is left, or early stopping says so."""
        if self.was_done or self.state.step >= self.plan.total:
            return True
        results = self.state.epochs
        patience = self.settings.early_stop
        return patience is not None and bool(results) and len(results) - 1 - self._best() >= patience

    def seed_step(self) -> None:
        """Seed torch for the coming step; that is all of the random state that a resume needs."""
        torch.manual_seed(derived_seed(self.seed, self.name, self.state.step, self.process))

    def step(self) -> int:
        """One optimizer step; returns the number of examples that all processes read in it."""
        step, accumulation = self.state.step, self.plan.accumulation
        rate = learning_rate_at(step, self.plan.total, self.settings)
        set_learning_rate(self.optimizer, rate)
        parts: dict[str, Tensor] = {}
        examples = 0
        for i, (epoch, index) in enumerate(self.plan.batches(step)):
            batch, weight = self._batch(epoch, index)
            examples += self.batches.examples_of(index)
            with _gradients_stay_here(self.accelerator, self.wrapped, i < accumulation - 1):
                now: dict[str, Tensor] = self.wrapped(batch, weight)
                loss = torch.stack([part.float() for part in now.values()]).sum() / accumulation
                torch.autograd.backward(loss)
            for name, part in now.items():
                parts[name] = parts.get(name, torch.zeros_like(part)) + part.detach() / accumulation
        if self.processes > 1:
            parts = self.accelerator.reduce(parts, reduction="mean")
        norm = clip_gradients(self.touched.gradients(self.trainable), self.settings.max_grad_norm)
        self.losses.add(step + 1, parts, norm, rate)
        self.touched.spread()
        self.optimizer.step()
        self.touched.clear()
        self.optimizer.zero_grad(set_to_none=True)
        self.state.step += 1
        self.state.examples += examples
        return examples

    def validate_and_save(self) -> None:
        """Score the model at an epoch's end; write a checkpoint then and every ``checkpoint_every`` steps."""
        step = self.state.step
        ends_epoch = self.plan.ends_epoch(step)
        if ends_epoch and self.validation is not None:
            name, value = self._score(self.validation)
            self.state.epochs.append({"epoch": self.plan.epochs(step), "step": float(step), name: value})
            if self.settings.keep == "best" and self._best() == len(self.state.epochs) - 1:
                self._save(self.folder.write_best)
        if step < self.plan.total and (ends_epoch or step % self.settings.checkpoint_every == 0):
            self._save(lambda module, state: self.folder.write_checkpoint(module, self.optimizer, state))
            if self.settings.keep == "best" and self.state.epochs:
                self.folder.drop_worse(self.kept_step)

    def close(self) -> None:
        """Take the weights to keep and mark the stage finished."""
        if self.was_done:
            return
        if self.kept_step != self.state.step:
            self.folder.read_best(self.kept_step, self.trainee)
            self.accelerator.wait_for_everyone()  # all have read it before it is removed
        self._save(self.folder.write_done)

    @property
    def kept_step(self) -> int:
        """The step whose weights are kept, as things stand."""
        if self.settings.keep == "last" or not self.state.epochs:
            return self.state.step
        return int(self.state.epochs[self._best()]["step"])

    @property
    def last_metric(self) -> dict[str, float]:
        """The newest validation result, for the progress bar."""
        return {k: v for k, v in (self.state.epochs or [{}])[-1].items() if k not in ("epoch", "step")}

    def _score(self, validation: Encoded) -> tuple[str, float]:
        """The primary metric, worked out by one process and told to the others, who must decide alike."""
        told = [score(self.model, validation, self.task) if self.process == 0 else 0.0]
        return self.task.primary_metric, float(broadcast_object_list(told)[0])

    def _best(self) -> int:
        """Index of the best validation result, the first of equals."""
        metric = next(m for m in self.task.metrics if m.name == self.task.primary_metric)
        sign = 1.0 if metric.direction == "higher" else -1.0
        values = [sign * result[metric.name] for result in self.state.epochs]
        return values.index(max(values))

    def _save(self, write: Callable[[nn.Module, Progress], None]) -> None:
        self.losses.read()
        self.state.seconds = self.resumed_at + time.perf_counter() - self.started
        if self.accelerator.is_main_process:
            write(self.trainee, self.state)
        self.accelerator.wait_for_everyone()

    def _batches(self, epoch: int) -> TrainingBatches:
        return training_batches(
            self.encoded,
            batch_size=self.settings.batch_size,
            seed=self.seed,
            epoch=epoch,
            pad_id=self.model.tokenizer.pad_token_id,
            rank=self.process,
            world=self.processes,
        )

    def _batch(self, epoch: int, index: int) -> tuple[Batch, float]:
        """A batch and what it counts for: 0 where it is another process's."""
        if epoch != self.epoch:
            self.epoch, self.batches = epoch, self._batches(epoch)
        return self.batches[index].to(self.device), 0.0 if self.batches.stands_in(index) else 1.0


def _rate_in_network(rate_of: Callable[[str], float], name: str) -> float:
    """The factor for a parameter of a `_Trainee`; what is trained beside the network has 1."""
    own = name.removeprefix("network.")
    return 1.0 if own == name else rate_of(own)


def _logits_in_float32(_module: nn.Module, _inputs: object, output: ModelOutput) -> None:
    """So that no loss is computed in bfloat16, whose log-softmax keeps less than three digits."""
    if "logits" in output:
        output["logits"] = output["logits"].float()


@contextmanager
def _gradients_stay_here(accelerator: Accelerator, module: nn.Module, here: bool) -> Iterator[None]:
    """Without the exchange of gradients between processes while a step still accumulates."""
    if here:
        with accelerator.no_sync(module):
            yield
    else:
        yield

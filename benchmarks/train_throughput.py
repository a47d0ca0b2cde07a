"""Training throughput: `fit` against transformers' `Trainer`, same model and data, in alternating rounds.

usage: python benchmarks/train_throughput.py [--model FOLDER] [--train-file FILE] [--rows N] [--rounds N]
                                      [--candidates NAME …]

Candidates, each in a process of its own, with the same batch size, precision and optimizer settings:
  ours     the project's loop
  grouped  Trainer with dynamic padding and length grouping
  padded   Trainer with every row padded to 128 (fewer steps: all of them cost the same)
A round trains each candidate for one epoch (padded: 6 steps), in random order, one at a time, after a short
round that is not timed. Both length groupings sort 50 batches at a time; Trainer's does so from 200 batches on.
On a shared machine only ratios within a round mean something: their median and range are shown. The CPU
time per example, over all rounds, barely feels the neighbours (set OMP_NUM_THREADS=1: waiting threads count).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WARM_UP_STEPS = 5
PADDED_STEPS = 6
PADDED_LENGTH = 128


class Clock:
    """Times steps and counts what they read."""

    def __init__(self) -> None:
        self.examples = self.positions = 0
        self.started = self.seconds = self.cpu_started = self.cpu_seconds = 0.0

    def read(self, shape: tuple[int, int]) -> None:
        """Count a batch of (examples, padded length)."""
        self.examples += shape[0]
        self.positions += shape[0] * shape[1]

    def step_begins(self) -> None:
        """Start with the first step."""
        if not self.started:
            self.started, self.cpu_started = time.perf_counter(), time.process_time()

    def step_done(self) -> None:
        """Take the time at the end of a step."""
        self.seconds = time.perf_counter() - self.started
        self.cpu_seconds = time.process_time() - self.cpu_started


def inputs(arguments: argparse.Namespace) -> tuple[Any, Any, Any]:
    """Return the model, its task and the rows that every candidate trains on."""
    from compressbert.config.schema import DataConfig
    from compressbert.data.read import label_names_of, read_split
    from compressbert.model.checkpoint import load
    from compressbert.tasks.base import task_for

    config = DataConfig(train=str(arguments.train_file), max_train_rows=arguments.rows)
    names = label_names_of(config)
    task = task_for(config, names)
    return load(arguments.model, task=task.spec()), task, read_split(config, "train", label_names=names)


def ours(arguments: argparse.Namespace) -> Callable[[int, int], Clock]:
    """Return a function (steps, seed) that trains with the project's loop."""
    from compressbert.config.schema import TrainConfig
    from compressbert.data.encode import encode
    from compressbert.train.loop import fit

    model, task, split = inputs(arguments)
    encoded = encode(split, model.tokenizer, task=task, max_length=PADDED_LENGTH)

    def run(steps: int, seed: int) -> Clock:
        clock = Clock()

        def loss(model: Any, batch: Any) -> dict[str, Any]:
            clock.read(batch.inputs["input_ids"].shape)
            return {"task": task.loss(model(**batch.inputs).logits, batch.labels)}

        settings = TrainConfig(
            batch_size=arguments.batch_size,
            max_steps=steps,
            precision=arguments.precision,
            epochs=1,
        )
        with tempfile.TemporaryDirectory() as work:
            fit(
                model, encoded, loss, settings, task=task, seed=seed, work=Path(work), stage="train",
                before_step=lambda *_: clock.step_begins(), after_step=lambda *_: clock.step_done(),
            )  # fmt: skip
        return clock

    return run


def trainer(arguments: argparse.Namespace, *, grouped: bool) -> Callable[[int, int], Clock]:
    """Return a function (steps, seed) that trains with transformers' Trainer, as its examples set it up."""
    import torch
    from transformers import DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments
    from transformers.utils import logging

    logging.set_verbosity_error()
    model, _, split = inputs(arguments)
    tokenizer = model.tokenizer

    def tokenize(rows: dict[str, Any]) -> Any:
        texts = (rows["text"], rows["text_pair"]) if "text_pair" in rows else (rows["text"],)
        padding = False if grouped else "max_length"
        return tokenizer(*texts, truncation=True, max_length=PADDED_LENGTH, padding=padding)

    texts = [name for name in split.rows.column_names if name != "label"]
    rows = split.rows.map(tokenize, batched=True, remove_columns=texts).rename_column("label", "labels")
    pad = DataCollatorWithPadding(tokenizer)

    def run(steps: int, seed: int) -> Clock:
        clock = Clock()

        class Steps(TrainerCallback):  # type: ignore[misc]
            def on_step_begin(self, *_: Any, **__: Any) -> None:
                clock.step_begins()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                clock.step_done()

        class Counting(Trainer):  # type: ignore[misc]
            def training_step(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
                clock.read(inputs["input_ids"].shape)
                return super().training_step(model, inputs, *rest, **more)

        with tempfile.TemporaryDirectory() as folder:
            settings = TrainingArguments(
                folder,
                per_device_train_batch_size=arguments.batch_size,
                max_steps=steps,
                bf16=arguments.precision == "bf16",
                learning_rate=3e-5,
                weight_decay=0.01,
                warmup_steps=0.1,
                train_sampling_strategy="group_by_length" if grouped else "random",
                use_cpu=not torch.cuda.is_available(),
                seed=seed,
                save_strategy="no",
                logging_steps=50,
                report_to="none",
                disable_tqdm=True,
            )
            Counting(
                model.network, settings, train_dataset=rows, data_collator=pad, processing_class=tokenizer,
                callbacks=[Steps()],
            ).train()  # fmt: skip
        return clock

    return run


CANDIDATES: dict[str, Callable[[argparse.Namespace], Callable[[int, int], Clock]]] = {
    "ours": ours,
    "grouped": lambda arguments: trainer(arguments, grouped=True),
    "padded": lambda arguments: trainer(arguments, grouped=False),
}


def work(arguments: argparse.Namespace) -> None:
    """Serve rounds: a line of JSON in, a line of JSON out."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print must not mix with the answers
    run = CANDIDATES[arguments.worker](arguments)
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        clock = run(**json.loads(line))
        print(json.dumps(vars(clock)), file=answers, flush=True)


class Worker:
    """A candidate's process."""

    def __init__(self, name: str) -> None:
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        self.process = subprocess.Popen(
            [sys.executable, __file__, *sys.argv[1:], "--worker", name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said, text=True,
        )  # fmt: skip

    def answer(self) -> dict[str, float]:
        """Wait for the next line; stop with the worker's own words if there is none."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.said.seek(0)
            raise SystemExit(self.said.read())
        answer: dict[str, float] = json.loads(line)
        return answer

    def train(self, steps: int, seed: int) -> dict[str, float]:
        """Train one round."""
        print(json.dumps({"steps": steps, "seed": seed}), file=self.process.stdin, flush=True)
        return self.answer()


def main(arguments: argparse.Namespace) -> None:
    """Alternate the candidates and print the table."""
    workers = {}
    for name in {
        "ours": None,
        **dict.fromkeys(arguments.candidates),
    }:  # one after another: tokenizing and importing must not disturb each other
        workers[name] = Worker(name)
        workers[name].answer()
        workers[name].train(WARM_UP_STEPS, seed=1000)
    rates: dict[str, list[float]] = {name: [] for name in workers}
    totals: dict[str, dict[str, float]] = {name: {} for name in workers}
    for number in range(arguments.rounds):
        for name in random.Random(number).sample(list(workers), len(workers)):
            steps = PADDED_STEPS if name == "padded" else -(-arguments.rows // arguments.batch_size)
            found = workers[name].train(steps, seed=number)
            rates[name].append(found["examples"] / found["seconds"])
            for key, value in found.items():
                totals[name][key] = totals[name].get(key, 0.0) + value
    for worker in workers.values():
        worker.process.communicate()
    print(
        f"{arguments.model}, batch {arguments.batch_size}, {arguments.precision}, {arguments.rounds} rounds"
    )
    print(
        f"{'candidate':10} {'examples/s':>10} {'CPU ms/example':>15} {'positions/example':>18} "
        f"{'ours is faster by':>25}"
    )
    for name, values in rates.items():
        ratios = [mine / other for mine, other in zip(rates["ours"], values, strict=True)]
        total = totals[name]
        length, cpu = total["positions"] / total["examples"], 1000 * total["cpu_seconds"] / total["examples"]
        spread = f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{name:10} {statistics.median(values):10.0f} {cpu:15.2f} {length:18.1f} {spread:>25}")


def parse() -> argparse.Namespace:
    """Read the command line; models and data default to the folders that the slow tests use."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    models, data = os.environ.get("COMPRESSBERT_MODELS"), os.environ.get("COMPRESSBERT_DATA")
    parser.add_argument("--model", default=models and f"{models}/minilm-sst2", required=not models)
    parser.add_argument("--train-file", default=data and f"{data}/sst2/train.jsonl.gz", required=not data)
    parser.add_argument("--rows", type=int, default=6400, help="first rows of the file; an epoch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--candidates", nargs="+", choices=list(CANDIDATES), default=list(CANDIDATES))
    parser.add_argument("--worker", choices=list(CANDIDATES), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    parsed = parse()
    if parsed.worker:
        work(parsed)
    else:
        main(parsed)

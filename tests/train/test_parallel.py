"""Two processes (accelerate launch, torchrun) train one model on the mean of both gradients."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from compressbert.data.batches import training_batches
from tests.train.parallel_worker import NO_DROPOUT, SETTINGS
from tests.train.support import files_of, tiny_model, toy

ROOT = Path(__file__).parents[2]


def test_two_processes_end_alike_and_as_a_loop_over_all_their_batches(tmp_path: Path) -> None:
    task, encoded = toy(tmp_path)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launch, "-m", "tests.train.parallel_worker", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]

    first, second = (load_file(tmp_path / f"process-{process}") for process in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (tmp_path / "process-0.txt").read_text() == (tmp_path / "process-1.txt").read_text()
    # 60 rows: 15 batches of 4, 8 turns of two processes, 4 steps of two turns
    assert (tmp_path / "process-0.txt").read_text().startswith("4 ")
    assert files_of(tmp_path / "work" / "train") == ["done/state.json", "done/weights.safetensors"]

    reference = tiny_model(**NO_DROPOUT)
    teacher = reference.copy()
    streams = [
        training_batches(encoded, batch_size=4, seed=0, epoch=0, pad_id=0, rank=rank, world=2)
        for rank in (0, 1)
    ]
    named = list(reference.network.named_parameters())
    decayed = [p for _, p in named if p.dim() > 1], [p for _, p in named if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed[0], "weight_decay": 0.01}, {"params": decayed[1], "weight_decay": 0.0}],
        fused=True,
    )
    for step, rate in enumerate([1.0, 1.0, 2 / 3, 1 / 3]):  # the one step of warm-up is at the peak
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * rate
        for turn in range(2 * step, 2 * step + 2):
            own = [stream[turn] for stream in streams if not stream.stands_in(turn)]
            rows = sum(len(batch) for batch in own)
            for batch in own:
                loss = task.loss(reference(**batch.inputs).logits, batch.labels)
                (loss * len(batch) / rows / 2).backward()
        torch.nn.utils.clip_grad_norm_(reference.network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert SETTINGS["gradient_accumulation"] == 2
    for name, tensor in reference.network.named_parameters():
        if not name.endswith("key.bias"):  # its true gradient is 0: Adam scales rounding noise up
            torch.testing.assert_close(first[f"0.{name}"], tensor.detach(), rtol=1e-3, atol=1e-5, msg=name)
    assert first["teacher"].shape == (60, 2)
    row = training_batches(encoded, batch_size=1, seed=0, epoch=0, pad_id=0)[0]
    expected = teacher(**row.inputs).logits[0].detach()
    torch.testing.assert_close(first["teacher"][int(row.examples[0])], expected, rtol=1e-4, atol=1e-5)

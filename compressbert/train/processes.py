"""Which process this is, of how many, the device it trains on, and what one process does for all."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, parse_flag_from_env

from compressbert.progress import warn

Value = TypeVar("Value")


def processes() -> PartialState:
    """The state that all processes of `accelerate launch` or torchrun share; a single process is process 0 of 1.

    accelerate ignores torchrun on a machine without an accelerator unless it is told to use the CPU; each process
    would then train alone and write to the same files.
    """
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=cpu)


def by_the_first(work: Callable[[], Value]) -> Value:
    """Do ``work`` in the first process while the others wait, and return what it returned in all of them.

    If it fails there, the launcher ends the others. What is returned must be picklable; it stays on this machine's
    network.
    """
    state = processes()
    if state.num_processes == 1:
        return work()
    told = [work() if state.is_main_process else None]
    found: Value = broadcast_object_list(told)[0]
    return found


def warn_of_a_lone_process() -> None:
    """Say so where `accelerate launch` was asked for several processes and started one.

    Without a GPU it starts several only with --multi_gpu; it leaves no trace of the number that was asked for but the
    address they would meet at.
    """
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ
    if launched and "WORLD_SIZE" not in os.environ:
        warn(
            "accelerate launch was asked for several processes and started one, which it does on a CPU: "
            "add --multi_gpu (in spite of its name), or use torchrun --nproc-per-node N -m compressbert"
        )

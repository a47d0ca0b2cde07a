"""Which process this is, of how many, and the device it trains on."""

from __future__ import annotations

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env


def processes() -> PartialState:
    """The state that all processes of `accelerate launch` or torchrun share; a single process is process 0 of 1.

    accelerate ignores torchrun on a machine without an accelerator unless it is told to use the CPU; each process
    would then train alone and write to the same files.
    """
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=cpu)

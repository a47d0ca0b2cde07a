"""A step that several processes work on: one owns its folder, all train in it, and all return its record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compressbert.results.record import StepResult
from compressbert.results.store import StepFolder, step_folder, work_folder
from compressbert.train.processes import by_the_first, processes, warn_of_a_lone_process


@dataclass(frozen=True)
class Shared:
    """What a step has of its folder in any process.

    Attributes:
        work: Scratch that all processes read and the first one writes.
        own: The folder in the making; None in all processes but the first.
    """

    work: Path
    own: StepFolder | None

    def finish(self, work: Callable[[StepFolder], StepResult]) -> StepResult:
        """Let the first process save and score what was made; the others wait and return its record too."""
        return by_the_first(lambda: work(self.owned))

    @property
    def owned(self) -> StepFolder:
        """The folder in the making, in the process that has it."""
        if self.own is None:
            raise RuntimeError("only the first process writes the step's folder")
        return self.own


@contextmanager
def shared_step(target: Path, *, overwrite: bool, key: str) -> Iterator[Shared]:
    """The context in which a step that trains writes ``target``, in one process or several.

    Raises:
        ConfigError: As `results.store.step_folder`; the launcher then ends the other processes.
    """
    warn_of_a_lone_process()
    state = processes()
    if state.is_main_process:
        with step_folder(target, overwrite=overwrite, key=key) as own:
            state.wait_for_everyone()  # the folder is ready
            yield Shared(own.work, own)
    else:
        state.wait_for_everyone()
        yield Shared(work_folder(target), None)

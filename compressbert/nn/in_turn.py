"""Hooks on modules that may run several times in one pass: each run is for one place in a list."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Before = Callable[[int, Tensor], Tensor | None]
After = Callable[[int, Tensor], Tensor | None]


def hook_in_turn(
    modules: Sequence[nn.Module],
    *,
    before: Before | None = None,
    after: After | None = None,
    places: Collection[int] | None = None,
) -> list[RemovableHandle]:
    """Hook modules by their place in ``modules``; one that stands there several times runs for its places in turn.

    Args:
        modules: In the order in which they run; in every pass all of them run.
        before: Is given the place and the first positional argument, and may return another one in its place.
        after: Is given the place and the result, or the first of several, and may return another one.
        places: Those that are of interest; None for all.
    """
    wanted = range(len(modules)) if places is None else places
    found: dict[nn.Module, list[int]] = {}
    for place, module in enumerate(modules):
        found.setdefault(module, []).append(place)
    handles: list[RemovableHandle] = []
    for module, own in found.items():
        if any(place in wanted for place in own):
            turns = _Turns(own, wanted, before, after)
            handles += [
                module.register_forward_pre_hook(turns.start, with_kwargs=True),
                module.register_forward_hook(turns.end),
            ]
    return handles


class _Turns:
    """The places of one module, and which of them its next run is for."""

    def __init__(
        self, own: Sequence[int], wanted: Collection[int], before: Before | None, after: After | None
    ) -> None:
        self.own, self.wanted, self.before, self.after = own, wanted, before, after
        self.runs = 0

    @property
    def place(self) -> int:
        return self.own[self.runs % len(self.own)]

    def start(self, _: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if self.before is None or self.place not in self.wanted:
            return None
        other = self.before(self.place, given[0])
        return None if other is None else ((other, *given[1:]), named)

    def end(self, _: nn.Module, __: tuple[Any, ...], result: Any) -> Any:
        place = self.place
        self.runs += 1
        if self.after is None or place not in self.wanted:
            return None
        if isinstance(result, tuple):  # some layers give one, the states first
            other = self.after(place, result[0])
            return None if other is None else (other, *result[1:])
        return self.after(place, result)

"""How much data would tell: the size of a sample whose interval clears a limit; widths shrink as 1/√n."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal

from compressbert.results.record import Interval
from compressbert.results.report import Need

_HOPELESS = 1000.0  # times the present sample: nobody buys that


def need(found: Interval, limit: float, what: Literal["rows", "rounds"], count: int | None) -> Need:
    """What it takes until the interval of ``found`` clears ``limit``, if its value stays where it is.

    The bound that must clear lies on the limit's side of the value, at a distance of ``half``. n rows leave ``half``,
    n' leave ``half · √(n / n')``, and this must be less than the distance of the limit. ``about`` is None where that
    is out of reach, or ``count`` is not known.
    """
    gap = abs(limit - found.value)
    half = found.high - found.value if limit > found.value else found.value - found.low
    if count is None or gap == 0.0 or half > gap * math.sqrt(_HOPELESS):
        return Need(what=what, now=count, about=None)
    return Need(what=what, now=count, about=_two_digits(math.ceil(count * (half / gap) ** 2)))


def need_text(needed: Need) -> str:
    """A need in words."""
    what = {"rows": "validation rows", "rounds": "rounds (benchmark.rounds)"}[needed.what]
    if needed.now is None:
        return f"more {what} would tell"
    if needed.about is None:
        return f"no reasonable number of {what} would tell, for the value is all but the limit ({needed.now:,} now)"
    return f"about {needed.about:,} {what} would tell if the value stays ({needed.now:,} now)"


def at_once(found: Interval, count: int) -> Interval:
    """A 95 % interval widened so that ``count`` of them hold together (Bonferroni; normal tails assumed)."""
    normal = NormalDist()
    wider = normal.inv_cdf(1.0 - 0.025 / count) / normal.inv_cdf(0.975)
    low, high = found.value - found.low, found.high - found.value
    return Interval(value=found.value, low=found.value - wider * low, high=found.value + wider * high)


def _two_digits(count: int) -> int:
    """``count`` rounded up to two significant digits."""
    step = int(10 ** max(0, len(str(count)) - 2))
    return -(-count // step) * step

"""The gates of a whole report: judged on its last row, and on a second measurement where the first one cannot tell.

A second measurement is judged alone, never pooled with the first: looking at growing data until it decides would
make wrong verdicts likelier than the interval says. There is one, of a size fixed before it starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from compressbert.config.schema import Gates
from compressbert.pipeline.gates import judge
from compressbert.results.environment import fingerprint
from compressbert.results.record import Conditions
from compressbert.results.report import Report, ReportGate, ReportRow

_MARGIN = 1.5  # times the rounds that would just do if the ratio stayed exactly where it is


class Second(NamedTuple):
    """A second measurement: the row with its new timings, and the circumstances."""

    row: ReportRow
    conditions: Conditions | None


# Times the baseline and the last row once more, for so many rounds and at most so many seconds.
Again = Callable[[int, float], Second]


def judged(gates: Gates, report: Report, again: Again | None = None) -> Report:
    """The report with the verdicts of ``gates`` on its last row.

    Args:
        gates: The limits.
        report: Measured.
        again: With ``on_uncertain: measure-more``, what times the models once more; None if that is not possible.
    """
    row, machine = report.rows[-1], fingerprint(report.environment)
    verdicts = judge(gates, row, report.conditions, machine)
    rounds = rounds_to_buy(verdicts)
    if gates.on_uncertain == "measure-more" and again is not None and rounds:
        second = again(rounds, gates.measure_more_seconds)
        later = {gate.name: gate for gate in judge(gates, second.row, second.conditions, machine)}
        measured = f"second measurement{_rounds(second.conditions)}"
        verdicts = tuple(_updated(gate, later[gate.name], measured) for gate in verdicts)
    return report.model_copy(update={"gates": verdicts})


def rounds_to_buy(verdicts: Iterable[ReportGate]) -> int:
    """Rounds that would let every gate tell that rounds can help; 0 if there is none."""
    wanted = [
        gate.need.about
        for gate in verdicts
        if gate.need is not None and gate.need.what == "rounds" and gate.need.about is not None
    ]
    return round(_MARGIN * max(wanted, default=0))


def _updated(first: ReportGate, second: ReportGate, measured: str) -> ReportGate:
    if first.need is None or first.need.what != "rounds":
        return first
    return second.model_copy(update={"reason": f"{second.reason} ({measured})"})


def _rounds(conditions: Conditions | None) -> str:
    return f" of {conditions.rounds} rounds" if conditions is not None else ""

"""How long the rows of a task train, from the configs that are written for SST-2."""

from __future__ import annotations

from typing import Any

# The training rows of SST-2 that the numbers of steps in configs/table1/METHOD.yaml are of.
WRITTEN_FOR_ROWS = 20_000


def with_steps_for(rows: int, settings: Any) -> Any:
    """``settings`` with every number of steps set to a task of ``rows`` training rows.

    Epochs count rows and stay; so a student whose length is written in epochs and its control whose length is written
    in steps stay as long as each other.

    Args:
        rows: Training rows of the task.
        settings: A pipeline's settings, or a part of them.
    """
    if isinstance(settings, list):
        return [with_steps_for(rows, item) for item in settings]
    if not isinstance(settings, dict):
        return settings
    return {
        name: max(1, round(value * rows / WRITTEN_FOR_ROWS))
        if name == "max_steps"
        else with_steps_for(rows, value)
        for name, value in settings.items()
    }

"""How long the rows of a small task train, from the configs that are written for SST-2."""

from __future__ import annotations

from typing import Any

# The training rows of SST-2 that the numbers of steps in configs/table1/METHOD.yaml are of.
WRITTEN_FOR_ROWS = 20_000
# How often a task's rows are seen, as a multiple of what methods' files say.
LONGER = {"mrpc": 2.0, "cola": 2.0}


def lengthened(settings: Any, longer: float, *, rows: int) -> Any:
    """``settings`` with every number of epochs and of steps set to a task of ``rows`` training rows.

    Epochs count rows, so they grow by ``longer`` alone; steps grow by the ratio of rows too. So a student whose
    length is written in epochs and its control whose length is written in steps stay as long as each other.

    Args:
        settings: A pipeline's settings, or a part of them.
        longer: How often each row is seen, as a multiple of what ``settings`` say.
        rows: Training rows of the task.
    """
    if isinstance(settings, list):
        return [lengthened(item, longer, rows=rows) for item in settings]
    if not isinstance(settings, dict):
        return settings
    result = {}
    for name, value in settings.items():
        if name == "max_steps":
            result[name] = max(1, round(value * longer * rows / WRITTEN_FOR_ROWS))
        elif name == "epochs" or name.endswith("_epochs"):
            result[name] = value * longer
        else:
            result[name] = lengthened(value, longer, rows=rows)
    return result

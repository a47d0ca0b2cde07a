"""Telling names on the hub from paths that are not there."""

from __future__ import annotations

import os
import re
from pathlib import Path

from compressbert.errors import ConfigError

# Collections of data sets under a name without an owner: what follows the name chooses one.
_FAMILIES = frozenset({"glue", "super_glue", "xnli", "xtreme", "tweet_eval", "paws", "paws-x", "wikitext"})
_HUB_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?")


def may_be_on_hub(name: str) -> bool:
    """Whether ``name``, which is no file or folder here, can be a name on the hub (``model`` or ``org/model``).

    What starts like a path, or would lie in a folder that exists, is a path.
    """
    looks_like_path = name.startswith((os.sep, ".", "~"))
    in_a_folder = os.sep in name and Path(name).parent.is_dir()
    return not looks_like_path and not in_a_folder and _HUB_NAME.fullmatch(name) is not None


def data_set_name(name: str) -> tuple[str, str | None]:
    """A hub data set's own name and the configuration asked for, if any (``glue/sst2``: glue, sst2).

    Raises:
        ConfigError: A name with more than three parts.
    """
    parts = name.split("/")
    if not all(parts) or len(parts) > 3:
        raise ConfigError(
            f"data.hub: expected NAME, NAME/CONFIG or OWNER/NAME/CONFIG, found {name!r}", hint="glue/sst2"
        )
    if len(parts) == 3:
        return "/".join(parts[:2]), parts[2]
    if len(parts) == 2 and parts[0] in _FAMILIES:
        return parts[0], parts[1]
    return name, None

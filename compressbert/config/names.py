"""Telling names on the hub from paths that are not there."""

from __future__ import annotations

import os
import re
from pathlib import Path

_HUB_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?")


def may_be_on_hub(name: str) -> bool:
    """Whether ``name``, which is no file or folder here, can be a name on the hub (``model`` or ``org/model``).

    What starts like a path, or would lie in a folder that exists, is a path.
    """
    looks_like_path = name.startswith((os.sep, ".", "~"))
    in_a_folder = os.sep in name and Path(name).parent.is_dir()
    return not looks_like_path and not in_a_folder and _HUB_NAME.fullmatch(name) is not None

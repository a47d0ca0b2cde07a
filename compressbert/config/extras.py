"""Optional extras: the packages a setting needs, asked for before any work starts."""

from __future__ import annotations

import importlib.util

from compressbert.config.sections import ExportConfig
from compressbert.errors import InputError


def require_extras(settings: ExportConfig) -> None:
    """Raise InputError with the command to type if an export needs a package that is not installed."""
    if settings.format != "openvino":
        return
    needed = ("openvino", "nncf") if settings.precision in ("int8", "both") else ("openvino",)
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"export.format: openvino needs {' and '.join(missing)}, not installed here.",
            hint="pip install 'compressbert[openvino]'",
        )

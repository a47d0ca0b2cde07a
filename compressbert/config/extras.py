"""Optional extras: the packages a setting needs, asked for before any work starts."""

from __future__ import annotations

import importlib.util

from compressbert.config.sections import ExportConfig
from compressbert.config.tracking import TrackingConfig
from compressbert.errors import InputError


def require_extras(settings: ExportConfig) -> None:
    """Raise InputError with the command to type if an export needs a package that is not installed."""
    if settings.format != "openvino":
        return
    needed = ("openvino", "nncf") if settings.precision in ("int8", "both") else ("openvino",)
    _require("export.format: openvino", needed, extra="openvino")


def require_tracking(settings: TrackingConfig | None) -> None:
    """Raise InputError with the command to type if tracking is asked for and its package is not installed."""
    if settings is not None:
        _require(f"tracking: {settings.backend}", (settings.backend,), extra="tracking")


def _require(what: str, packages: tuple[str, ...], *, extra: str) -> None:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"{what} needs {' and '.join(missing)}, not installed here.",
            hint=f"pip install 'compressbert[{extra}]'",
        )

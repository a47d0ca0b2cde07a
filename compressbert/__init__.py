"""compressbert: make BERT-family encoders small and fast, and prove what that cost.

    import compressbert

    model = compressbert.load("runs/sst2/01-finetune")

Every command of the command line is one plain function of `compressbert.api`. Names here are imported on first use, so
``import compressbert`` costs milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compressbert.methods.base import Run
    from compressbert.model.checkpoint import load, save
    from compressbert.model.handle import Model

__version__ = "0.1.0"
__all__ = ["Model", "Run", "__version__", "load", "save"]

_HOMES = {
    "Model": "compressbert.model.handle",
    "Run": "compressbert.methods.base",
    "load": "compressbert.model.checkpoint",
    "save": "compressbert.model.checkpoint",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

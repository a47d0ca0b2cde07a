"""compressbert: make BERT-family encoders small and fast, and prove what that cost.

Every command of the command line is one plain function here:

    import compressbert

    model = compressbert.load("runs/sst2/teacher")
    print(compressbert.evaluate(...).quality)

Names are imported on first use, so ``import compressbert`` costs milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compressbert.methods.base import Run as Run
    from compressbert.model.checkpoint import load as load
    from compressbert.model.checkpoint import save as save
    from compressbert.model.handle import Model as Model
    from compressbert.pipeline.run import run as run
    from compressbert.pipeline.steps.benchmark import benchmark as benchmark
    from compressbert.pipeline.steps.compress import compress as compress
    from compressbert.pipeline.steps.evaluate import evaluate as evaluate
    from compressbert.pipeline.steps.export import export as export
    from compressbert.pipeline.steps.finetune import finetune as finetune
    from compressbert.pipeline.steps.report import report as report
    from compressbert.pipeline.steps.verify import verify as verify

__version__ = "0.1.0"

_COMMANDS = ("finetune", "compress", "export", "evaluate", "benchmark", "report", "verify")
_HOMES = {
    "Model": "compressbert.model.handle",
    "Run": "compressbert.methods.base",
    "load": "compressbert.model.checkpoint",
    "save": "compressbert.model.checkpoint",
    "run": "compressbert.pipeline.run",
    **{name: f"compressbert.pipeline.steps.{name}" for name in _COMMANDS},
}

__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604 - the names are strings


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__

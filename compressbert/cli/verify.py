"""`compressbert verify`."""

from __future__ import annotations

from compressbert.cli.console import Screen
from compressbert.cli.options import Folder
from compressbert.errors import WorkError


def verify(screen: Screen, folder: Folder) -> int:
    """Open a model or an export in every loader installed.

    Their answers are compared; exit code 4 if a loader fails or disagrees. Loaders that need an environment
    of their own are looked for in $COMPRESSBERT_LOADERS; the table says how to get those that are absent.

    Example: compressbert verify runs/onnx
    """
    from compressbert.cli.show import verify_table
    from compressbert.pipeline.steps.verify import verify as step

    result = step(folder)
    document = result.to_json()
    screen.show(document, verify_table(document))
    return 0 if result.ok else WorkError.exit_code

"""`verify`: open an artefact in every loader that is installed and compare their answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressbert.errors import InputError
from compressbert.export.verify import LoaderCheck
from compressbert.export.verify import verify as check_loaders
from compressbert.results.record import SCHEMA_VERSION


@dataclass(frozen=True)
class VerifyResult:
    """What every loader said."""

    folder: Path
    checks: list[LoaderCheck]

    @property
    def ok(self) -> bool:
        """Whether no loader that is present failed."""
        return all(check.status != "failed" for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Return the document that `verify --json` prints."""
        rows = [
            {
                "loader": check.loader,
                "status": check.status,
                "max_difference": check.max_difference,
                "detail": check.detail,
            }
            for check in self.checks
        ]
        return {"schema_version": SCHEMA_VERSION, "folder": str(self.folder), "ok": self.ok, "rows": rows}


def verify(folder: Path) -> VerifyResult:
    """Open ``folder`` (a model folder, an export folder or an .onnx file) in every loader present.

    Raises:
        InputError: There is nothing at ``folder``.
    """
    if not folder.exists():
        raise InputError(
            f"nothing at {folder}", hint="Give a model folder, an export folder or an .onnx file."
        )
    return VerifyResult(folder, check_loaders(folder))

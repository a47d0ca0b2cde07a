"""What a model card is made of: the record of a step, what lies in its folder, and what a pipeline measured of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from compressbert.results.record import Conditions, DataFacts, Environment, Parent, StepResult
from compressbert.results.report import ReportRow

_GENERIC = "LABEL_"


@dataclass(frozen=True)
class Measured:
    """What a pipeline measured once all of its steps were done."""

    row: ReportRow
    baseline: str
    environment: Environment
    conditions: Conditions | None = None
    timed_as_export: bool = False  # the folder is a model folder; its ONNX export was timed


@dataclass(frozen=True)
class Card:
    """What a card says of a step's folder."""

    result: StepResult
    measured: Measured | None = None

    @property
    def data(self) -> DataFacts | None:
        """The data the step read; None without any."""
        return self.result.lineage[-1].data if self.result.lineage else None

    @property
    def section(self) -> dict[str, Any]:
        """The data section of the step's settings; empty without one."""
        return self.data.section if self.data else {}


@dataclass(frozen=True)
class Form:
    """The form a model is stored in.

    Attributes:
        config: Its config.json.
        exported: The .onnx files, or the .xml files of OpenVINO, as paths in the folder; empty for a model folder.
        int8: Whether the weights of a model folder are int8.
    """

    config: dict[str, Any]
    exported: tuple[str, ...] = ()
    int8: bool = False

    @property
    def library(self) -> Literal["transformers", "onnx", "openvino"]:
        """What opens the folder."""
        if not self.exported:
            return "transformers"
        return "openvino" if self.main.endswith(".xml") else "onnx"

    @property
    def architecture(self) -> str:
        """Name of the stock class; empty if there is none."""
        return str((self.config.get("architectures") or [""])[0])

    @property
    def code(self) -> bool:
        """Whether transformers needs the folder's own code."""
        return bool(self.config.get("auto_map")) and not self.exported

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in the order of their ids; empty for a model without names of its own."""
        names = self.config.get("id2label") or {}
        ordered = tuple(str(names[key]) for key in sorted(names, key=int))
        has_labels = "Classification" in self.architecture
        return ordered if has_labels and not all(name.startswith(_GENERIC) for name in ordered) else ()

    @property
    def is_int8(self) -> bool:
        """Whether the file to use holds int8 weights."""
        return "quantized" in PurePosixPath(self.main).name if self.exported else self.int8

    @property
    def main(self) -> str:
        """The exported file to use: the quantized one where there is one."""
        return max(self.exported, key=lambda name: "quantized" in PurePosixPath(name).name)


def form_of(folder: Path) -> Form:
    """The form of what lies in ``folder``."""
    config = _json(folder / "config.json")
    files = [*folder.rglob("*.onnx")] or [*folder.glob("openvino_*.xml")]
    exported = tuple(sorted(file.relative_to(folder).as_posix() for file in files))
    edits = _json(folder / "compression.json").get("edits") or []
    return Form(config, exported, int8=any(edit.get("op") == "quantize_int8" for edit in edits))


def hub_name(parent: Parent) -> str | None:
    """The hub name of what a step read; None for a folder."""
    return parent.sha256.removeprefix("hub:").rpartition("@")[0] if parent.sha256.startswith("hub:") else None


def file_name(path: str) -> str:
    """The last part of a path: where it lay on somebody's disk is nobody's business."""
    return PurePosixPath(path.replace("\\", "/")).name


def _json(file: Path) -> dict[str, Any]:
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found if isinstance(found, dict) else {}

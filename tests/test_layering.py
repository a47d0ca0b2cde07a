"""Imports point downwards, and nothing heavy is imported before --help."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "compressbert"

# From the top; a module may import from rows below its own and from its own package. See docs/architecture.md.
ROWS = (
    {"cli"},
    {"pipeline"},
    {"methods", "export", "measure", "report"},
    {"train"},
    {"tasks"},
    {"model", "data"},
    {"nn"},
    {"config", "results", "errors", "progress"},
)
# Sideways imports that are part of the design: results and config are one vocabulary; what is measured is reported.
ALLOWED = {("results", "config"), ("config", "errors"), ("results", "errors"), ("report", "measure")}
HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "onnx",
    "onnxruntime",
    "matplotlib",
    "scipy",
    "sklearn",
    "accelerate",
)


def row_of(package: str) -> int:
    return next(index for index, row in enumerate(ROWS) if package in row)


def imported_packages(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        modules = []
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module]
            if node.module == "compressbert":
                modules = [f"compressbert.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in modules if name.startswith("compressbert.")}
    return found


def test_imports_point_downwards() -> None:
    wrong = []
    files = [
        file
        for file in PACKAGE.rglob("*.py")
        if file.parent != PACKAGE or file.stem in ("errors", "progress")
    ]
    assert len(files) > 40
    for file in files:
        relative = file.relative_to(PACKAGE)
        own = relative.parts[0].removesuffix(".py")
        for other in imported_packages(file) - {own, "__version__"}:
            if row_of(other) <= row_of(own) and (own, other) not in ALLOWED:
                wrong.append(f"{relative} imports compressbert.{other}")
    assert wrong == []


def test_no_method_imports_another() -> None:
    wrong = []
    files = list((PACKAGE / "methods").glob("*/*.py"))
    assert len(files) >= 5
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            module = getattr(node, "module", None) or ""
            shared = (
                len(module.split(".")) == 3
            )  # compressbert.methods.base and its neighbours, no family's folder
            if module.startswith("compressbert.methods.") and not shared:
                wrong.append(f"{file.name} imports {module}")
    assert wrong == []


def test_command_line_imports_nothing_heavy() -> None:
    code = f"import sys, compressbert.cli.app; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_low_layers_import_without_torch() -> None:
    modules = [
        "errors",
        "progress",
        "config.schema",
        "config.load",
        "results.record",
        "results.store",
        "results.environment",
    ]
    names = ", ".join(f"compressbert.{module}" for module in modules)
    code = f"import sys; import {names}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

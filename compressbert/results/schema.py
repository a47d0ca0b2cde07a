"""JSON Schemas of what is written: `result.json`, `report.json` and `regression.json`. They ship beside this file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from compressbert.results.record import StepResult
from compressbert.results.regression import Regression
from compressbert.results.report import Report

DIALECT = "https://json-schema.org/draft/2020-12/schema"
RECORDS: dict[str, type[BaseModel]] = {"result": StepResult, "report": Report, "regression": Regression}


def record_schema(name: str) -> dict[str, Any]:
    """The JSON Schema of ``result``, ``report`` or ``regression``, made from the record's model."""
    return {"$schema": DIALECT, **RECORDS[name].model_json_schema(mode="serialization")}


def shipped_file(name: str) -> Path:
    """Where the schema of a record ships."""
    return Path(__file__).with_name(f"{name}.schema.json")


def schema_text(name: str) -> str:
    """The content of the shipped file: ``python -m compressbert schema result`` prints it."""
    return json.dumps(record_schema(name), indent=2, ensure_ascii=False) + "\n"

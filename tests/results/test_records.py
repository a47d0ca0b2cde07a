"""What is written agrees with the schemas that ship, and says where it was made."""

from __future__ import annotations

import json
import os
from importlib import metadata

import jsonschema
import pytest

from compressbert.results.environment import ISA, environment
from compressbert.results.record import MetricResult, StepResult
from compressbert.results.report import Report, ReportRow
from compressbert.results.schema import RECORDS, record_schema, schema_text, shipped_file


def step_result() -> StepResult:
    quality = {"accuracy": MetricResult(value=0.9, low=0.88, high=0.92, examples=872)}
    return StepResult(
        step="out", command="prune", config={"seed": 1}, seed=1, quality=quality, primary_metric="accuracy",
        environment=environment(), seconds=2.5, files={"model.safetensors": "00"},
    )  # fmt: skip


def report() -> Report:
    return Report(
        title="t", baseline="a", rows=(ReportRow(name="a", step="finetune"),), environment=environment()
    )


@pytest.mark.parametrize("name", RECORDS)
def test_the_shipped_schema_is_that_of_the_model(name: str) -> None:
    assert shipped_file(name).read_text(encoding="utf-8") == schema_text(name)


@pytest.mark.parametrize(("name", "record"), [("result", step_result()), ("report", report())])
def test_a_record_fits_its_schema(name: str, record: StepResult | Report) -> None:
    schema = record_schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    document = json.loads(record.model_dump_json())
    jsonschema.validate(document, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "unknown": 1}, schema)


def test_the_environment_is_this_one() -> None:
    found = environment()
    assert found.versions["torch"] == metadata.version("torch")
    assert "nonsense" not in found.versions
    assert found.cores == len(os.sched_getaffinity(0))
    assert found.cpu
    assert set(found.isa) <= set(ISA)

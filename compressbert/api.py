"""The commands as plain functions, each with the settings of its YAML (`config/schema.py`).

from compressbert import api
from compressbert.config.schema import ExportStepConfig

api.export(ExportStepConfig(model={"path": "runs/int8"}, output="runs/onnx"))
"""

from compressbert.pipeline.run import run
from compressbert.pipeline.steps.benchmark import benchmark
from compressbert.pipeline.steps.compress import compress
from compressbert.pipeline.steps.evaluate import evaluate
from compressbert.pipeline.steps.export import export
from compressbert.pipeline.steps.finetune import finetune
from compressbert.pipeline.steps.report import check_regression, report
from compressbert.pipeline.steps.verify import verify

__all__ = [
    "benchmark",
    "check_regression",
    "compress",
    "evaluate",
    "export",
    "finetune",
    "report",
    "run",
    "verify",
]

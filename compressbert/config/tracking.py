"""The section ``tracking`` of a pipeline: where a finished run is logged."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from compressbert.config.kinds import Settings


class TrackingConfig(Settings):
    """Where a finished pipeline is logged. ``tracking: mlflow`` is short for the defaults."""

    backend: Literal["mlflow"] = Field("mlflow", description="The tracker; mlflow needs the extra tracking.")
    uri: str | None = Field(
        None,
        description="Server (http://HOST:PORT), database (sqlite:///FILE) or folder; default: MLFLOW_TRACKING_URI, "
        "else MLflow's own default.",
    )
    experiment: str | None = Field(None, description="Name of the experiment; default: the pipeline's name.")
    run: str | None = Field(None, description="Name of the run; default: the pipeline's name.")


def _tracking_in_full(value: Any) -> Any:
    return {"backend": value} if isinstance(value, str) else value


Tracking = Annotated[
    TrackingConfig | None,
    BeforeValidator(_tracking_in_full, json_schema_input_type=Literal["mlflow"] | TrackingConfig | None),
]

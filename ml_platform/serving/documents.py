"""The answers of the service as types, for its OpenAPI document; tests hold the answers against them.

Answers are made as plain JSON, without these: a request that is answered does not pay for its documentation.
"""

import datetime as dt
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ml_platform.serving.compute import Outcome, State


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Declared(_Closed):
    """How a view was declared when the version was trained."""

    declaration: str = Field(description="Digest of the view's declaration.")


class ViewAge(_Closed):
    """What was there of one view for one row."""

    timestamp: dt.datetime | None = Field(description="When the values are of; null where there are none.")
    age_seconds: float | None
    state: State = Field(description="`stale` is older than the view's ttl.")


class _Worth(_Closed):
    views: dict[str, ViewAge]
    missing: list[str] = Field(description="Features of views that have no row for the key.")
    defaulted: list[str] = Field(
        description="Of the missing and stale ones, those that were answered with null."
    )
    stale: list[str] = Field(description="Features of views whose row is older than its ttl.")


class Prediction(_Worth):
    """What one row was answered."""

    prediction_id: str = Field(description="The prediction log has it under this id.")
    event: int | str | None = Field(description="Id of the event, if the row had one.")
    outcome: Outcome = Field(description="`rejected` by the model's policy has neither score nor decision.")
    score: float | None
    decision: Literal["alert", "no_alert"] | None = Field(
        description="Null of a model that forecasts numbers."
    )


class _Answer(_Closed):
    model: str
    version: int
    run_id: str = Field(description="MLflow run in which the version was trained.")
    as_of: dt.datetime = Field(description="What ages are counted from.")
    request_id: str
    trace_id: str
    features: dict[str, Declared] = Field(description="By view.")


class Predictions(_Answer):
    """What the rows of a request were answered, in their order."""

    predictions: list[Prediction]


class FeatureRow(_Worth):
    """Features of one row."""

    keys: dict[str, int | str]
    outcome: Literal["served", "rejected"]
    values: dict[str, int | float | str | bool | None]


class Features(_Answer):
    """Features of views for some keys, in their order, as the model's policy serves them."""

    service: str
    rows: list[FeatureRow]


class ModelStatus(_Closed):
    """How one model is served."""

    model: str
    role: Literal["champion", "shadow"]
    version: int | None
    run_id: str | None
    partition: str | None = Field(description="What the version was trained on.")
    origin: Literal["registry", "copy"] | None
    since: dt.datetime | None
    wanted: int | None = Field(description="The version that has the alias.")
    refused: int | None = Field(description="The version that has the alias and cannot be served.")
    registry: bool = Field(description="Whether the registry answers.")
    problems: list[str]


class Models(_Closed):
    """All models of this service."""

    models: list[ModelStatus]


class Health(_Closed):
    """How the process is."""

    status: Literal["alive"]


class ReadyModel(_Closed):
    """By which version a model is served, and whether the registry gave it, or the copy on this machine."""

    model: str
    version: int | None
    origin: Literal["registry", "copy"] | None


class Ready(_Closed):
    """Everything can be asked: by these versions."""

    status: Literal["ready"]
    models: list[ReadyModel]


class Live(_Closed):
    """Whether the process lives."""

    live: bool


class AllReady(_Closed):
    """Whether every model can be asked."""

    ready: bool


class ServerMetadata(_Closed):
    """What this server is."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(_Closed):
    """One tensor that a model takes or gives."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(_Closed):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ModelReady(_Closed):
    """Whether a model can be asked."""

    name: str
    ready: bool


class IndexEntry(_Closed):
    """One model of the repository."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


class OutputTensor(_Closed):
    """One tensor of an answer."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class InferAnswer(_Closed):
    """What a model gives."""

    model_name: str
    model_version: str
    id: str
    parameters: dict[str, Any]
    outputs: list[OutputTensor]

"""What travels with a model version, so that serving needs nothing else of the platform's declarations.

It is written as `contract.json` beside the model when a version is registered, and read by whoever scores with it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ml_platform.features.aggregation import FieldType
from ml_platform.features.spec import FeatureServiceSpec, FeatureViewSpec
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.digest import source_digest
from ml_platform.kernel.errors import StoreError
from ml_platform.models.spec import ModelSpec

DOCUMENT = "contract.json"
FORMAT = 3
"""Goes up when who reads a contract has to know more, or other things, than before."""
_OF_ONE_ENTITY = 2
"""The format before: a view had one entity. It is still read."""


class _Part(BaseModel):
    """A part of a contract: closed, so that nothing that was agreed on is overlooked."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class KeyContract(_Part):
    """A join key of a view: the entity that it tells apart, and how requests name it."""

    entity: str
    name: str
    type: FieldType


class ViewContract(_Part):
    """What is read of one feature view, and how old it may be."""

    name: str
    keys: tuple[KeyContract, ...]
    features: tuple[str, ...]
    types: tuple[FieldType, ...]
    ttl_seconds: int
    available_after_seconds: int
    declaration: str = Field(description="Digest of the view's declaration when the version was trained.")
    online: bool = Field(default=True, description="False: only batch predictions can read it.")


class OnDemandContract(_Part):
    """A function that is run for every request: by path, and with the digest of its source."""

    name: str
    function: str
    digest: str
    request: tuple[str, ...]
    features: tuple[str, ...] = Field(description="Features of views that it reads.")
    outputs: tuple[str, ...]


class EventContract(_Part):
    """How the events that are scored are told apart: predictions are joined with their labels by it."""

    name: str
    type: FieldType
    source: str


class Training(_Part):
    """Where the version comes from."""

    run_id: str
    partition: str
    training_set: str


class SelfTest(_Part):
    """A row of features, in the contract's order, and the score that the version gave it when it was trained."""

    features: tuple[float | None, ...]
    score: float


class Contract(_Part):
    """One model version: what it reads, in which order, what becomes of missing values, and what it answers."""

    format: Literal[3]
    model: str
    feature_service: str
    event: EventContract
    features: tuple[str, ...] = Field(description="The model's input columns, float32, in this order.")
    views: tuple[ViewContract, ...]
    request: Mapping[str, FieldType]
    on_demand: tuple[OnDemandContract, ...]
    missing: Literal["reject", "default", "serve_stale"]
    threshold: float | None = Field(description="Score from which on a row is an alert; None of numbers.")
    input: str
    output: str
    onnx: str = Field(description="SHA-256 of the model's file.")
    training: Training
    self_test: tuple[SelfTest, ...]
    gate_evidence: Mapping[str, Any]

    @property
    def keys(self) -> dict[str, FieldType]:
        """Type by join key of every view, each once."""
        return {key.name: key.type for view in self.views for key in view.keys}


def read_contract(document: Mapping[str, Any], *, of: str) -> Contract:
    """The contract in a document; StoreError for one of another format, or with something unknown in it."""
    if document.get("format") not in (_OF_ONE_ENTITY, FORMAT):
        raise StoreError(
            f"{of}: a contract of format {FORMAT} is required; got {document.get('format', 1)}. It was registered by "
            f"another version of the platform and is not served; train it again, or serve it with that version"
        )
    try:
        return Contract.model_validate(
            _renewed(document) if document["format"] == _OF_ONE_ENTITY else document
        )
    except ValidationError as err:
        first = err.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StoreError(
            f"{of}: its contract cannot be read: {where}: {first['msg']}. It is not served; train it again"
        ) from err


def contract(
    spec: ModelSpec,
    catalog: Catalog,
    *,
    onnx: bytes,
    run_id: str,
    partition: str,
    self_test: Sequence[Mapping[str, Any]],
    evidence: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of contract.json: features, functions by path and digest, policies, self-test, evidence."""
    service = spec.training_set_spec(catalog).service(catalog)
    source = service.source_spec(catalog)
    event = {"name": source.event_id, "type": _key_type(source.columns[source.event_id].type)}
    return {
        "format": FORMAT,
        "model": spec.name,
        "feature_service": service.name,
        "event": {**event, "source": source.name},
        "features": service.feature_names(catalog),
        "views": [_view(view, catalog) for view in service.view_specs(catalog)],
        "request": {name: field.type for name, field in service.request_fields(catalog).items()},
        "on_demand": _on_demand(service, catalog),
        "missing": spec.missing,
        "threshold": spec.threshold if spec.task == "classification" else None,
        "input": "features",
        "output": "probabilities" if spec.task == "classification" else "numbers",
        "onnx": hashlib.sha256(onnx).hexdigest(),
        "training": {"run_id": run_id, "partition": partition, "training_set": spec.training_set},
        "self_test": list(self_test),
        "gate_evidence": dict(evidence),
    }


def self_test_rows(
    features: npt.NDArray[np.float32], scores: npt.NDArray[np.float32], *, rows: int = 5
) -> list[dict[str, Any]]:
    """A few rows with their scores, spread over the scores, that serving repeats before it takes a version."""
    order = np.argsort(scores, kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(rows, len(order))).astype(int)]
    return [
        {
            "features": [None if np.isnan(value) else float(value) for value in features[i]],
            "score": float(scores[i]),
        }
        for i in chosen
    ]


def _renewed(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document of the format before as one of today's; what is no such document stays for the reader to refuse."""
    told = {"entity": "entity", "name": "join_key", "type": "key_type"}
    views = [
        {**{name: value for name, value in view.items() if name not in told.values()}}
        | {"keys": [{name: view.get(old) for name, old in told.items()}]}
        for view in document.get("views", ())
    ]
    return {**document, "format": FORMAT, "views": views}


def _view(view: FeatureViewSpec, catalog: Catalog) -> dict[str, Any]:
    features = view.features(catalog)
    columns = view.sources(catalog)[0].columns
    return {
        "name": view.name,
        "keys": [
            {"entity": entity, "name": key, "type": _key_type(columns[key].type)}
            for entity, key in view.key_of.items()
        ],
        "features": [feature.name for feature in features],
        "types": [feature.type for feature in features],
        "ttl_seconds": view.ttl.seconds,
        "available_after_seconds": view.available_after.seconds,
        "declaration": view.digest(),
        "online": view.online,
    }


def _on_demand(service: FeatureServiceSpec, catalog: Catalog) -> list[dict[str, Any]]:
    views = {view.name: view for view in service.view_specs(catalog)}
    return [
        {
            "name": on_demand.name,
            "function": on_demand.function,
            "digest": source_digest(on_demand.function),
            "request": list(on_demand.request),
            "features": [f.name for name in on_demand.views for f in views[name].features(catalog)],
            "outputs": list(on_demand.outputs),
        }
        for on_demand in service.on_demand_specs(catalog)
    ]


def _key_type(kind: str) -> str:
    """The type of a key as requests give it: Feast's keys are whole numbers or texts."""
    return "int64" if kind in ("int32", "int64") else "string"

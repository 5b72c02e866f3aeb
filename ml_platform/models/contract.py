"""What travels with a model version, so that serving needs nothing else of the platform's declarations."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ml_platform.features.spec import FeatureServiceSpec
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.digest import source_digest
from ml_platform.models.spec import ModelSpec


def contract(
    spec: ModelSpec,
    catalog: Catalog,
    *,
    run_id: str,
    partition: str,
    self_test: Sequence[Mapping[str, Any]],
    evidence: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of contract.json: features, functions by path and digest, policies, self-test, evidence."""
    service = spec.training_set_spec(catalog).service(catalog)
    return {
        "model": spec.name,
        "feature_service": service.name,
        "features": service.feature_names(catalog),
        "views": [
            {
                "name": view.name,
                "join_key": view.entity_key,
                "features": [feature.name for feature in view.features(catalog)],
                "ttl_seconds": view.ttl.seconds,
                "available_after_seconds": view.available_after.seconds,
                "declaration": view.digest(),
            }
            for view in service.view_specs(catalog)
        ],
        "request": {name: field.type for name, field in service.request_fields(catalog).items()},
        "on_demand": _on_demand(service, catalog),
        "missing": spec.missing,
        "threshold": spec.threshold,
        "input": "features",
        "output": "probabilities",
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


def _on_demand(service: FeatureServiceSpec, catalog: Catalog) -> list[dict[str, Any]]:
    return [
        {
            "name": on_demand.name,
            "function": on_demand.function,
            "digest": source_digest(on_demand.function),
            "request": list(on_demand.request),
            "outputs": list(on_demand.outputs),
        }
        for on_demand in service.on_demand_specs(catalog)
    ]

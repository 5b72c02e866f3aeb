"""Examples for the OpenAPI document, of the shapes that one version takes and gives; their values are made up."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ml_platform.features.aggregation import FieldType
from ml_platform.serving.compute import Answer, ViewState
from ml_platform.serving.service import Ready
from ml_platform.serving.tensors import DATATYPES

_VALUES: Mapping[FieldType, Any] = {"int64": 1, "double": 1.5, "float": 1.5, "string": "a", "boolean": True}
_MIDNIGHT = 1_767_225_600_000_000
_HOUR = 3_600_000_000


def keys_example(ready: Ready) -> dict[str, Any]:
    """The keys of one row."""
    return {name: _VALUES[kind] for name, kind in ready.served.contract.keys.items()}


def body_example(ready: Ready, *, many: bool) -> dict[str, Any]:
    """A body that asks about one row, or about several."""
    row = {name: _VALUES[kind] for name, kind in ready.instances.required.items()}
    event = ready.instances.event
    named = row | ({event[0]: _VALUES[event[1]]} if event else {})
    return {"instances": [row, named]} if many else {"instance": row}


def predictions_example(ready: Ready) -> dict[str, Any]:
    """What one row may be answered."""
    threshold = ready.served.contract.threshold
    views = [ViewState(view.name, [_MIDNIGHT], ["fresh"]) for view in ready.served.contract.views]
    answer = Answer(
        features=np.empty((1, 0)),
        views=views,
        outcomes=["scored"],
        scores=[0.07],
        alerts=[None if threshold is None else threshold <= 0.07],
    )
    ids = {"request_id": "5f0c6b2e", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"}
    return ready.telling.document(answer, [{}], ["9b1c6a0f3d2e-0"], as_of=_MIDNIGHT + 9 * _HOUR, **ids)


def infer_example(ready: Ready) -> dict[str, Any]:
    """A request of the Open Inference Protocol for one row."""
    return {
        "id": "5f0c6b2e",
        "inputs": [
            {"name": name, "datatype": DATATYPES[kind], "shape": [1], "data": [_VALUES[kind]]}
            for name, kind in ready.instances.required.items()
        ],
    }

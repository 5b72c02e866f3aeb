"""Predictions of a toy model as the service would log them: a contract of one view, and batches of it."""

from collections.abc import Sequence
from functools import cache

import numpy as np

from ml_platform.models.contract import Contract
from ml_platform.serving.compute import Answer, ViewState
from ml_platform.serving.logged import LoggedBatch, Role

AS_OF = 1_530_000_000_000_000  # 2018-06-26 08:00 UTC
DAY = "2018-06-26"


@cache
def toy_contract(model: str = "toy") -> Contract:
    return Contract.model_validate(
        {
            "format": 3,
            "model": model,
            "feature_service": model,
            "event": {"name": "payment_id", "type": "int64", "source": "payments"},
            "features": ("amount", "spent_7d", "over_habit"),
            "views": [
                {
                    "name": "spending",
                    "keys": ({"entity": "customer", "name": "customer_id", "type": "int64"},),
                    "features": ("spent_7d",),
                    "types": ("double",),
                    "ttl_seconds": 3 * 86_400,
                    "available_after_seconds": 3_600,
                    "declaration": "d",
                }
            ],
            "request": {"amount": "double"},
            "on_demand": [],
            "missing": "default",
            "threshold": 0.5,
            "input": "features",
            "output": "probabilities",
            "onnx": "0",
            "training": {"run_id": "r", "partition": DAY, "training_set": model},
            "self_test": [],
            "gate_evidence": {},
        }
    )


def toy_batch(
    ids: Sequence[str], *, as_of: int = AS_OF, version: int = 1, role: Role = "champion", model: str = "toy"
) -> LoggedBatch:
    """A request of some predictions: the second row of each has no snapshot, every other row names its event."""
    n = len(ids)
    times = [None if i == 1 else AS_OF - 3_600_000_000 for i in range(n)]
    scores = [i / 10 for i in range(n)]
    values = {
        "amount": [10.0 + i for i in range(n)],
        "spent_7d": [None if time is None else 0.1 + i for i, time in enumerate(times)],
        "over_habit": np.array([np.nan if time is None else 2.5 for time in times]),
    }
    states = ["missing" if time is None else "fresh" for time in times]
    return LoggedBatch(
        contract=toy_contract(model),
        version=version,
        run_id=f"run{version}",
        role=role,
        request_id=f"request of {ids[0]}",
        trace_id="0af7651916cd43dd8448eb211c80319c",
        as_of=as_of,
        prediction_ids=ids,
        rows=[
            {"customer_id": i, "amount": 10.0 + i, **({"payment_id": 100 + i} if i % 2 == 0 else {})}
            for i in range(n)
        ],
        answer=Answer(
            features=np.array(list(values.values()), np.float64).T,
            views=[ViewState("spending", times, states)],  # pyright: ignore[reportArgumentType]
            outcomes=["scored"] * n,
            scores=scores,
            alerts=[score >= 0.5 for score in scores],
        ),
    )

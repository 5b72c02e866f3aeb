"""How long the registered model takes for one row, as a request asks it."""

import time
from dataclasses import dataclass

import numpy as np

from ml_platform.kernel.errors import InputError
from ml_platform.models.compute import Array, onnx_session, predict_onnx

ROUNDS, CALLS, WARM_UP = 5, 200, 20


@dataclass(frozen=True)
class Latency:
    """Milliseconds in which half, and 99 of 100, of single rows were scored."""

    p50_ms: float
    p99_ms: float


def latency(model: bytes, features: Array) -> Latency:
    """Time an ONNX model on single rows of float32 features (n, k), here and now.

    The quietest of five rounds of 200 rows counts: other processes only ever add time, to some rounds, and a model
    that is too slow is so in all of them (Python's `timeit` says the same of its minimum).
    """
    if not len(features):
        raise InputError("Latency needs rows; none came. Nothing was timed. Give it rows of the test set.")
    session = onnx_session(model)
    rows = [features[i % len(features)][None] for i in range(CALLS)]
    for row in rows[:WARM_UP]:
        predict_onnx(session, row)
    rounds = [np.quantile([_seconds(session, row) for row in rows], [0.5, 0.99]) for _ in range(ROUNDS)]
    p50, p99 = np.min(rounds, axis=0) * 1000
    return Latency(float(p50), float(p99))


def _seconds(session: object, row: Array) -> float:
    started = time.perf_counter()
    predict_onnx(session, row)  # pyright: ignore[reportArgumentType]
    return time.perf_counter() - started

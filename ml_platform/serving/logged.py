"""What is kept of a request that was answered: enough to ask later what was said, from which values, and by whom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic_core import to_json

from ml_platform.kernel.partitions import PARTITION_COLUMN
from ml_platform.models.contract import Contract
from ml_platform.serving.compute import Answer

Role = Literal["champion", "shadow"]
"""`champion`: this was answered. `shadow`: it was scored beside the answer, and nobody was told."""

_TIME = pa.timestamp("us", "UTC")
_TEXTS = pa.map_(pa.string(), pa.string())
SCHEMA = pa.schema(
    [
        ("prediction_id", pa.string()),
        ("request_id", pa.string()),
        ("trace_id", pa.string()),
        ("model", pa.string()),
        ("version", pa.int64()),
        ("run_id", pa.string()),
        ("role", pa.string()),
        ("as_of", _TIME),
        ("logged_at", _TIME),
        ("event_id", pa.string()),  # null where the request did not name its event
        ("keys", _TEXTS),
        ("request", pa.string()),  # the request's values as JSON
        (
            "features",
            pa.map_(pa.string(), pa.float64()),
        ),  # as the model saw them; null where there was no value
        (
            "snapshots",
            pa.map_(pa.string(), pa.int64()),
        ),  # by view, microseconds since 1970; a missing view is left out
        ("states", _TEXTS),  # by view: fresh, stale or missing
        ("outcome", pa.string()),
        ("score", pa.float64()),
        ("alert", pa.bool_()),
        (PARTITION_COLUMN, pa.date32()),
    ]
)

Cells = tuple[Any, ...]
"""One row of the table as it waits: `_SINGLE`, then a text for each key, a time for each view, a state for each view.

It is flat, and its features are the bytes of their float64: thousands of rows wait at a time, and each garbage
collection looks at every object that is made of others.
"""
_SINGLE = (
    "request_id",
    "trace_id",
    "version",
    "run_id",
    "role",
    "as_of",
    "logged_at",
    "prediction_id",
    "event_id",
    "request",
    "features",
    "outcome",
    "score",
    "alert",
)


@dataclass(frozen=True)
class LoggedBatch:
    """The rows of one request as one version scored them.

    `rows` are the instances as they were asked for, with keys, request values and, where it was given, the id of the
    event. `as_of` is in microseconds since 1970 UTC. Nothing is copied: who offers it does not change it afterwards.
    """

    contract: Contract
    version: int
    run_id: str
    role: Role
    request_id: str
    trace_id: str
    as_of: int
    prediction_ids: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    answer: Answer

    def __len__(self) -> int:
        return len(self.rows)


def log_table(model: str) -> str:
    """Name of the lake table that the predictions of a model are logged to."""
    return f"serving/{model}_predictions"


def cells(batch: LoggedBatch, *, logged_at: int) -> list[Cells]:
    """The rows of a request for the table, offered at a microsecond: made while all of it is at hand, and small."""
    contract, answer = batch.contract, batch.answer
    event, keys, request = contract.event.name, contract.keys, contract.request
    same = (batch.request_id, batch.trace_id, batch.version, batch.run_id, batch.role, batch.as_of, logged_at)
    return [
        (
            *same,
            batch.prediction_ids[i],
            _text(row.get(event)),
            to_json({name: row[name] for name in request}).decode(),
            answer.features[i].tobytes(),
            answer.outcomes[i],
            answer.scores[i],
            answer.alerts[i],
            *[_text(row.get(key)) for key in keys],
            *[view.times[i] for view in answer.views],
            *[view.states[i] for view in answer.views],
        )
        for i, row in enumerate(batch.rows)
    ]


def encoded(contract: Contract, rows: Sequence[Cells]) -> pa.Table:
    """Logged predictions of a contract, whose names are those of the maps, as rows of the table."""
    found = list(zip(*rows, strict=True))
    columns: dict[str, Any] = dict(zip(_SINGLE, found, strict=False))
    of_maps = iter(found[len(_SINGLE) :])
    keys, times, states = (list(islice(of_maps, n)) for n in (len(contract.keys), *[len(contract.views)] * 2))
    as_of = np.array(columns["as_of"])
    views = [view.name for view in contract.views]
    columns |= {
        "model": [contract.model] * len(rows),
        "as_of": pa.array(as_of, pa.int64()).cast(_TIME),
        "logged_at": pa.array(columns["logged_at"], pa.int64()).cast(_TIME),
        "features": _features(contract, columns["features"]),
        "keys": _maps(list(contract.keys), _by_row(keys, pa.string())),
        "snapshots": _maps(views, _by_row(times, pa.int64())),
        "states": _maps(views, _by_row(states, pa.string())),
        PARTITION_COLUMN: pa.array(as_of // 86_400_000_000, pa.int32()).cast(pa.date32()),
    }
    return pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)


def _features(contract: Contract, rows: Sequence[bytes]) -> pa.Array:
    """The features of every row by name; NaN, which says that there is no value, becomes null."""
    values = np.frombuffer(b"".join(rows), np.float64)
    return _maps(contract.features, pa.array(values, from_pandas=True), absent=False)


def _by_row(columns: Sequence[Sequence[Any]], kind: pa.DataType) -> pa.Array:
    """The values of some columns, row after row."""
    return pa.array(list(chain.from_iterable(zip(*columns, strict=True))), kind)


def _maps(names: Sequence[str], items: pa.Array, *, absent: bool = True) -> pa.Array:
    """One map a row from values row after row; what is null is left out, or stays as a null."""
    rows = len(items) // len(names)
    keys = pa.array(names).take(pa.array(np.tile(np.arange(len(names)), rows)))
    sizes = np.full(rows, len(names))
    if absent and items.null_count:
        there = items.is_valid()
        sizes = there.to_numpy(zero_copy_only=False).reshape(rows, -1).sum(axis=1)
        keys, items = keys.filter(there), items.filter(there)
    return pa.MapArray.from_arrays(pa.array(np.concatenate(([0], sizes.cumsum())), pa.int32()), keys, items)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)

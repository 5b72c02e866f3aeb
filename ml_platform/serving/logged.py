"""What is kept of a request that was answered: enough to ask later what was said, from which values, and by whom."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
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


def encoded(batches: Sequence[LoggedBatch], logged_at: Sequence[int]) -> pa.Table:
    """Logged predictions as rows of the table, with the microsecond at which each batch was offered.

    All batches are of one contract: its names are those of the maps.
    """
    contract, rows = batches[0].contract, list(chain.from_iterable(batch.rows for batch in batches))
    sizes = np.array([len(batch) for batch in batches])
    as_of = np.repeat([batch.as_of for batch in batches], sizes)
    answers = [batch.answer for batch in batches]
    event, request = contract.event.name, tuple(contract.request)
    columns: dict[str, Any] = {
        "prediction_id": list(chain.from_iterable(batch.prediction_ids for batch in batches)),
        **{
            name: _repeated((getattr(batch, name) for batch in batches), sizes)
            for name in ("request_id", "trace_id", "version", "run_id", "role")
        },
        "model": [contract.model] * len(rows),
        "as_of": pa.array(as_of, pa.int64()).cast(_TIME),
        "logged_at": pa.array(np.repeat(logged_at, sizes), pa.int64()).cast(_TIME),
        "event_id": [None if row.get(event) is None else str(row[event]) for row in rows],
        "keys": _maps({key: [_text(row.get(key)) for row in rows] for key in contract.keys}, pa.string()),
        "request": [to_json({name: row[name] for name in request}).decode() for row in rows],
        "features": _features(contract, answers),
        **_of_views(contract, answers),
        "outcome": list(chain.from_iterable(answer.outcomes for answer in answers)),
        "score": list(chain.from_iterable(answer.scores for answer in answers)),
        "alert": list(chain.from_iterable(answer.alerts for answer in answers)),
        PARTITION_COLUMN: pa.array(as_of // 86_400_000_000, pa.int32()).cast(pa.date32()),
    }
    return pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)


def _features(contract: Contract, answers: Sequence[Answer]) -> pa.Array:
    """The features of every row by name; NaN, which says that there is no value, becomes null."""
    values = np.concatenate([answer.features for answer in answers])
    found = {name: pa.array(values[:, i], from_pandas=True) for i, name in enumerate(contract.features)}
    return _maps(found, pa.float64(), absent=False)


def _of_views(contract: Contract, answers: Sequence[Answer]) -> dict[str, pa.Array]:
    times = dict[str, Any]()
    states = dict[str, Any]()
    for i, view in enumerate(contract.views):
        times[view.name] = list(chain.from_iterable(answer.views[i].times for answer in answers))
        states[view.name] = list(chain.from_iterable(answer.views[i].states for answer in answers))
    return {"snapshots": _maps(times, pa.int64()), "states": _maps(states, pa.string())}


def _maps(columns: Mapping[str, Any], kind: pa.DataType, *, absent: bool = True) -> pa.Array:
    """One map a row from columns (n,) by key; what is null is left out, or stays as a null."""
    arrays = [c if isinstance(c, pa.Array) else pa.array(c, kind) for c in columns.values()]
    names, rows = len(arrays), len(arrays[0])
    by_row = np.arange(names * rows).reshape(names, rows).T.ravel()
    items = pa.concat_arrays(arrays).take(pa.array(by_row))
    keys = pa.array(list(columns)).take(pa.array(np.tile(np.arange(names), rows)))
    ends = np.arange(names, names * rows + 1, names)
    if absent and items.null_count:
        there = items.is_valid()
        ends = np.cumsum(there.to_numpy(zero_copy_only=False).reshape(rows, names).sum(axis=1))
        keys, items = keys.filter(there), items.filter(there)
    return pa.MapArray.from_arrays(pa.array([0, *ends.tolist()], pa.int32()), keys, items)


def _repeated(values: Iterable[Any], sizes: Any) -> list[Any]:
    return [value for value, size in zip(values, sizes, strict=True) for _ in range(size)]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)

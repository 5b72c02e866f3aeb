"""Events with the features that could be read at their time, and their scores; pure work on SQL and columns.

The features are those that a version's contract names, read as a service reads them: the newest row that was there,
however old it is. What becomes of one that is too old is the contract's policy, which the scorer knows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ml_platform.features.view_reads import Feature, ViewRead
from ml_platform.kernel.errors import StoreError
from ml_platform.lake.dialect import quoted
from ml_platform.models.contract import Contract, ViewContract
from ml_platform.predictions.spec import state_of, time_of
from ml_platform.serving.compute import Scorer, ViewRows
from ml_platform.sources.spec import CREATED_TIME, EVENT_TIME

_MICROS = 1_000_000


@dataclass(frozen=True)
class Version:
    """Who scores: a version of the model by number and run, ready to."""

    number: int
    run_id: str
    scorer: Scorer

    @property
    def contract(self) -> Contract:
        return self.scorer.contract


def carried(contract: Contract) -> list[str]:
    """Columns of the events that are asked for, each once: id, keys, time and what comes with a request."""
    return list(dict.fromkeys([contract.event.name, *contract.keys, EVENT_TIME, *contract.request]))


def view_read(view: ViewContract, relation: str, columns: Mapping[str, str]) -> ViewRead:
    """What is read of a view: its row's time, then the features that the contract names; without a ttl.

    Raises StoreError where the table has one of them no more.
    """
    keys = [key.name for key in view.keys]
    gone = [name for name in (*keys, *view.features) if name not in columns]
    if gone:
        raise StoreError(
            f"features/{view.name}: the columns {', '.join(gone)} are required by the champion's contract; the table "
            f"has {', '.join(columns)}. Nothing was scored; train and release a version on what is there now"
        )
    return ViewRead(
        relation=relation,
        columns=columns,
        keys=tuple(zip(keys, keys, strict=True)),
        features=(Feature(EVENT_TIME, EVENT_TIME), *(Feature(name, name) for name in view.features)),
        event_time=EVENT_TIME,
        created_time=CREATED_TIME,
        available_after=view.available_after_seconds * _MICROS,
        known_at=True,
    )


def asked_sql(events: str, columns: Sequence[str], event_id: str) -> str:
    """SQL of the events in the order of their ids as the point-in-time join takes them: `r`, `t`, then `c0`, `c1`, …"""
    numbered = ", ".join(f"{quoted(name)} AS c{i}" for i, name in enumerate(columns))
    order = f"row_number() OVER (ORDER BY {quoted(event_id)}) - 1 AS r"
    return f"SELECT {order}, epoch_us({EVENT_TIME}) AS t, {numbered} FROM ({events})"


def scored(version: Version, columns: Sequence[Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """What the version answers for rows of the join, by column; times are microseconds since 1970 UTC.

    `columns` are those carried, then of each view its row's time and its features.
    """
    contract = version.contract
    names = carried(contract)
    given = dict(zip(names, columns, strict=False))
    at, online = given[EVENT_TIME], _view_rows(contract, columns[len(names) :])
    rows = [{name: given[name][i] for name in contract.request} for i in range(len(at))]
    answer = version.scorer.score(rows, online, at=at)
    found: dict[str, Sequence[Any]] = {
        **{name: given[name] for name in (contract.event.name, *contract.keys, EVENT_TIME)},
        "outcome": answer.outcomes,
        "score": answer.scores,
        "alert": answer.alerts,
        "version": [version.number] * len(rows),
        "run_id": [version.run_id] * len(rows),
    }
    for view in answer.views:
        found |= {time_of(view.name): view.times, state_of(view.name): view.states}
    return found


def _view_rows(contract: Contract, columns: Sequence[Sequence[Any]]) -> list[ViewRows]:
    left = iter(columns)
    return [ViewRows(next(left), {name: next(left) for name in view.features}) for view in contract.views]

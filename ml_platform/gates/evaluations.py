"""What the event log knows: the latest completed evaluation and the newest materialization of each partition.

The latest evaluation is the one that was stored last. Dagster's own question answers by when a run was planned: it
takes what others found while a run waited in a queue for newer than what that run found.
"""

import datetime as dt
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dagster as dg
import sqlalchemy as sa
from dagster import DagsterEventType, EventLogEntry
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord as Record,
)
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecordStatus as Status,
)
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetKeyTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster_shared.serdes import unpack_value

from ml_platform.kernel.errors import StoreError

_ROWS = AssetCheckExecutionsTable.c
_RECORD = (
    _ROWS.id,
    _ROWS.run_id,
    _ROWS.execution_status,
    _ROWS.evaluation_event,
    _ROWS.create_timestamp,
    _ROWS.partition,
)
_STORED = _ROWS.evaluation_event_storage_id
_DONE = _ROWS.execution_status.in_(
    [Status.SUCCEEDED.value, Status.FAILED.value]
)  # neither planned nor crashed


def latest_evaluations(
    instance: dg.DagsterInstance, asset: str, check: str, partitions: Collection[str | None]
) -> dict[str | None, Record]:
    """The newest completed evaluation of each partition that has one; planned and crashed ones do not count.

    Without the tables of single findings, which are most of what there is to read and decide nothing.
    """
    if not partitions:
        return {}
    latest = _latest(asset, check, partitions)
    query = sa.select(*_RECORD).join(latest, latest.c.stored == _STORED).where(_completed(asset, check))
    return {record.partition: record for record in _records(instance, asset, check, query, tables=False)}


def latest_states(instance: dg.DagsterInstance, asset: str, check: str) -> dict[str | None, bool]:
    """Whether the latest completed evaluation of each partition of an asset's check passed."""
    latest = _latest(asset, check, None)
    query = sa.select(_ROWS.partition, _ROWS.execution_status)
    query = query.join(latest, latest.c.stored == _STORED).where(_completed(asset, check))
    with _index(instance) as connection:
        return {
            row.partition: row.execution_status == Status.SUCCEEDED.value for row in connection.execute(query)
        }


def all_latest_states(instance: dg.DagsterInstance) -> dict[tuple[str, str], dict[str | None, bool]]:
    """The same of every check that was ever evaluated, by asset and check.

    Which evaluation was stored last is asked only where they disagree: the column comes after the evaluation itself,
    and SQLite would read all of them for it.
    """
    query = sa.select(_ROWS.id, _ROWS.asset_key, _ROWS.check_name, _ROWS.partition, _ROWS.execution_status)
    cases: dict[tuple[str, str, str | None], dict[int, bool]] = {}
    with _index(instance) as connection:
        for number, asset, check, partition, status in connection.execute(query.where(_DONE)):
            cases.setdefault((asset, check, partition), {})[number] = status == Status.SUCCEEDED.value
        unlike = [n for passed in cases.values() if len(set(passed.values())) > 1 for n in passed]
        asked = sa.select(_ROWS.id, _STORED).where(_ROWS.id.in_(unlike))
        stored: dict[int, int] = {row.id: row[1] for row in connection.execute(asked)} if unlike else {}
    found: dict[tuple[str, str], dict[str | None, bool]] = {}
    for (asset, check, partition), passed in cases.items():
        last = max(passed, key=lambda number: stored.get(number, 0))
        found.setdefault((_asset(asset), check), {})[partition] = passed[last]
    return found


@dataclass(frozen=True)
class Made:
    """When an asset was materialized last, and the last partition, by its name, that it has of any time."""

    at: dt.datetime
    partition: str | None


def last_made(instance: dg.DagsterInstance) -> dict[str, Made]:
    """Every asset that was ever materialized, and not wiped since, in one question."""
    rows, assets = SqlEventLogStorageTable.c, AssetKeyTable.c
    wiped = sa.and_(assets.asset_key == rows.asset_key, assets.wipe_timestamp >= rows.timestamp)
    query = (
        sa.select(
            rows.asset_key, sa.func.max(rows.timestamp).label("at"), sa.func.max(rows.partition).label("last")
        )
        .where(rows.dagster_event_type == DagsterEventType.ASSET_MATERIALIZATION.value)
        .where(~sa.exists().where(wiped))
        .group_by(rows.asset_key)
    )
    with _index(instance) as connection:
        found = connection.execute(query).all()
    return {_asset(row.asset_key): Made(row.at.replace(tzinfo=dt.UTC), row.last) for row in found}


def latest_materializations(
    instance: dg.DagsterInstance, asset: str, partitions: Collection[str | None]
) -> dict[str | None, int]:
    """The storage id of the newest materialization of each partition; None stands for an asset without partitions."""
    key, storage = dg.AssetKey(asset.split("/")), instance.event_log_storage
    named = {partition for partition in partitions if partition is not None}
    found: dict[str | None, int] = {}
    if named:
        event_type = DagsterEventType.ASSET_MATERIALIZATION
        found.update(storage.get_latest_storage_id_by_partition(key, event_type, partitions=named))
    if None in partitions:
        records = storage.get_asset_records([key])
        last = records[0].asset_entry.last_materialization_record if records else None
        if last is not None:
            found[None] = last.storage_id
    return found


def newest_materialized(instance: dg.DagsterInstance, asset: str) -> str | None:
    """The last partition, by its name, that an asset has a materialization of."""
    key = dg.AssetKey(asset.split("/"))
    event_type = DagsterEventType.ASSET_MATERIALIZATION
    return max(instance.event_log_storage.get_latest_storage_id_by_partition(key, event_type), default=None)


def history(
    instance: dg.DagsterInstance, asset: str, check: str, partitions: Collection[str | None], *, limit: int
) -> list[Record]:
    """The newest completed evaluations of some partitions of an asset's check, newest first."""
    query = sa.select(*_RECORD).where(_completed(asset, check), _among(partitions))
    return list(_records(instance, asset, check, query.order_by(_STORED.desc()).limit(limit)))


def told(evaluation: dg.AssetCheckEvaluation, name: str, default: Any = "") -> Any:
    """A value of an evaluation's metadata."""
    found = evaluation.metadata.get(name)
    return default if found is None else found.value


def _latest(asset: str, check: str, partitions: Collection[str | None] | None) -> sa.Subquery:
    """Under which id the newest completed evaluation of each partition was stored, of some or of all."""
    wanted = [_completed(asset, check)] + ([] if partitions is None else [_among(partitions)])
    stored = sa.select(sa.func.max(_STORED).label("stored")).where(*wanted)
    return stored.group_by(_ROWS.partition).subquery()


def _completed(asset: str, check: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        _ROWS.asset_key == dg.AssetKey(asset.split("/")).to_string(),
        _ROWS.check_name == check,
        _DONE,
    )


def _asset(stored: str) -> str:
    """The key of an asset as the platform writes it, from how Dagster stores it."""
    key = dg.AssetKey.from_db_string(stored)
    assert key is not None, stored
    return key.to_user_string()


def _among(partitions: Collection[str | None]) -> sa.ColumnElement[bool]:
    named = sorted(partition for partition in partitions if partition is not None)
    return sa.or_(_ROWS.partition.in_(named), *([_ROWS.partition.is_(None)] if None in partitions else []))


def _records(
    instance: dg.DagsterInstance, asset: str, check: str, query: sa.Select[Any], *, tables: bool = True
) -> Iterator[Record]:
    key = dg.AssetCheckKey(dg.AssetKey(asset.split("/")), check)
    with _index(instance) as connection:
        rows = [dict(row) for row in connection.execute(query).mappings()]
    for row in rows:
        yield Record(
            key=key,
            id=row["id"],
            run_id=row["run_id"],
            status=Status(row["execution_status"]),
            event=_event(row["evaluation_event"], tables=tables),
            create_timestamp=row["create_timestamp"].replace(tzinfo=dt.UTC).timestamp(),
            partition=row["partition"],
        )


def _event(serialized: str, *, tables: bool) -> EventLogEntry:
    """An evaluation as it was stored, with or without metadata that is a table."""
    found = json.loads(serialized)
    evaluation = found["dagster_event"]["event_specific_data"]
    evaluation["metadata"] = {
        name: value
        for name, value in evaluation["metadata"].items()
        if tables or value["__class__"] != "TableMetadataEntryData"
    }
    return unpack_value(found, EventLogEntry)


@contextmanager
def _index(instance: dg.DagsterInstance) -> Iterator[sa.Connection]:
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        raise StoreError(
            f"gates need Dagster's event log in SQLite, Postgres or MySQL; this instance has "
            f"{type(storage).__name__}. Configure `storage:` in dagster.yaml"
        )
    with storage.index_connection() as connection:
        yield connection
